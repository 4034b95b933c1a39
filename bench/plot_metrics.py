#!/usr/bin/env python3
"""Draws the loss curves of runs as one SVG file: plot_metrics.py OUT.svg LABEL=metrics.jsonl ...

Lines with points are eval_loss; thin lines are the training loss, averaged over SMOOTH logged steps. Standard library only.
"""
import json
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 760, 420, 60, 46, 20, 20
SMOOTH = 8
COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b"]


def read(path):
    """Two lists of (step, loss): training, smoothed, and evaluation."""
    training, evaluation = [], []
    with open(path, encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if "eval_loss" in row:
                evaluation.append((row["step"], row["eval_loss"]))
            elif row.get("loss") is not None:
                training.append((row["step"], row["loss"]))
    smooth = []
    for i in range(SMOOTH - 1, len(training)):
        window = training[i - SMOOTH + 1 : i + 1]
        smooth.append((training[i][0], sum(loss for _, loss in window) / SMOOTH))
    return smooth, evaluation


def main():
    if len(sys.argv) < 3 or any("=" not in run for run in sys.argv[2:]):
        sys.exit(__doc__)
    runs = []
    for run in sys.argv[2:]:
        label, path = run.split("=", 1)
        runs.append((label, *read(path)))
    points = [p for _, training, evaluation in runs for p in training + evaluation]
    last = max(step for step, _ in points)
    low, high = min(loss for _, loss in points), max(loss for _, loss in points)
    low, high = low - 0.02 * (high - low), high + 0.02 * (high - low)

    def x(step):
        return LEFT + (WIDTH - LEFT - RIGHT) * step / last

    def y(loss):
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - loss) / (high - low)

    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for i in range(6):
        loss, step = low + (high - low) * i / 5, last * i / 5
        svg.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(loss):.1f}" y2="{y(loss):.1f}" stroke="#dddddd"/>')
        svg.append(f'<text x="{LEFT - 6}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss:.2f}</text>')
        svg.append(f'<text x="{x(step):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{step:.0f}</text>')
    svg.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle">optimizer step</text>')
    for i, (label, training, evaluation) in enumerate(runs):
        colour = COLOURS[i % len(COLOURS)]
        for series, width, opacity in ((training, 1, 0.35), (evaluation, 2, 1)):
            path = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in series)
            svg.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" opacity="{opacity}"/>')
        svg.extend(f'<circle cx="{x(s):.1f}" cy="{y(l):.1f}" r="3" fill="{colour}"/>' for s, l in evaluation)
        svg.append(f'<text x="{WIDTH - RIGHT - 150}" y="{TOP + 16 * (i + 1)}" fill="{colour}">{label}</text>')
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write("\n".join(svg) + "\n</svg>\n")


if __name__ == "__main__":
    main()
