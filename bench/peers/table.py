"""The measured rows as Markdown."""


def machine_line(machine):
    parts = [machine.get("name", machine["device"])]
    parts += [f"driver {machine['driver_version']}"] if "driver_version" in machine else []
    parts += [f"power limit {machine['power.limit']}"] if "power.limit" in machine else []
    parts += [f"{name} {machine[name]}" for name in ("torch", "transformers", "peft", "liger-kernel")]
    return ", ".join(parts + [machine["lisa"], machine["date"]])


def gibibytes(row):
    """The most that was allocated, and what was in use on the card with all that goes with it."""
    if "memory_bytes" not in row:
        return ""
    return f"{row['peak_allocated_bytes'] / 2**30:.1f} ({row['memory_bytes'] / 2**30:.1f})"


def checkpointing(row):
    return "" if row["checkpointing"] is None else "yes" if row["checkpointing"] else "no"


def figures(row, own):
    """ms a step, tokens a second, memory, times as fast; or the status instead."""
    if row["status"] != "ok":
        return [row["status"], "", "", ""]
    ratio = f"{row['milliseconds'] / own['milliseconds']:.2f}" if own else ""
    return [f"{row['milliseconds']:.1f}", f"{row['tokens_per_second']:.0f}", gibibytes(row), ratio]


def line(cells):
    return "| " + " | ".join(cells) + " |"


def own_row(rows):
    return next((row for row in rows if row["method"] == "this" and row["status"] == "ok"), None)


def fastest(rows):
    """The fastest row of each method, then of all peers, by name."""
    good = [row for row in rows if row["status"] == "ok" and row["method"] != "this"]
    best = {}
    for row in sorted(good, key=lambda row: row["milliseconds"], reverse=True):
        best[row["name"]] = row
    if best:
        best["any peer"] = min(best.values(), key=lambda row: row["milliseconds"])
    return best


def describe(row):
    parts = [row["precision"]]
    parts += ["checkpointing"] if row["checkpointing"] else []
    parts += ["Liger"] if row["liger"] else []
    return " ".join([row["name"]] + parts)


def shape_section(rows):
    own = own_row(rows)
    heading = f"{rows[0]['sequences']} x {rows[0]['tokens'] // rows[0]['sequences']} tokens a step"
    lines = [f"## {heading}", ""]
    left = ["method", "weights", "optimizer", "checkpointing", "Liger"]
    lines.append(line(left + ["ms", "tokens/s", "GiB allocated (on the card)", "lisa is x times as fast"]))
    lines.append("|---|---|---|---|---|---:|---:|---:|---:|")
    for row in rows:
        cells = [row["name"], row["weights"], row["optimizer"], checkpointing(row), "yes" if row["liger"] else "no"]
        lines.append(line(cells + figures(row, own)))
    lines.append("")
    if own:
        for name, row in fastest(rows).items():
            ratio = row["milliseconds"] / own["milliseconds"]
            lines.append(f"* against the fastest of {name} ({describe(row)}): {ratio:.2f} times as fast")
    checked = {row["checked"] for row in rows if "checked" in row}
    lines += [f"* LISA (LMFlow): {text}" for text in sorted(checked)]
    return lines + [""]


def attention_section(attention):
    lines = [f"## Attention alone, {attention['heads']} heads of {attention['head_dim']}, causal", ""]
    lines.append(line(["kernels", "tokens", "forward ms", "backward ms", "TFLOP/s (7 products)", "lisa reaches of it"]))
    lines.append("|---|---:|---:|---:|---:|---:|")
    rows = attention["rows"]
    own = {row["tokens"]: row for row in rows if row["backend"] == "lisa" and row["status"] == "ok"}
    for row in rows:
        cells = [row["backend"], str(row.get("tokens", ""))]
        if row["status"] != "ok":
            lines.append(line(cells + [row["status"], "", "", ""]))
            continue
        mine = own.get(row["tokens"])
        share = f"{100 * mine['gflop_per_second'] / row['gflop_per_second']:.0f} %" if mine else ""
        times = [f"{row['forward_milliseconds']:.3f}", f"{row['backward_milliseconds']:.3f}"]
        lines.append(line(cells + times + [f"{row['gflop_per_second'] * 1e-3:.1f}", share]))
    return lines + [""]


def markdown(result):
    config = result["config"]
    lines = [
        "# lisa and its peers, measured",
        "",
        f"{machine_line(result['machine'])}.",
        f"{config['num_hidden_layers']} layers, hidden {config['hidden_size']}, vocabulary {config['vocab_size']}; "
        "SDPA attention, gradients clipped to norm 1, AdamW; random weights, random tokens, every token a target.",
        "",
    ]
    shapes = []
    for row in result["rows"]:
        if (row["sequences"], row["tokens"]) not in shapes:
            shapes.append((row["sequences"], row["tokens"]))
    for shape in shapes:
        lines += shape_section([row for row in result["rows"] if (row["sequences"], row["tokens"]) == shape])
    return "\n".join(lines + attention_section(result["attention"]))
