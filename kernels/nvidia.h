// nvidia.h - whether this machine has an NVIDIA card, found out without CUDA.
#pragma once

// Where a card shows itself: its device files, the driver's list, Windows below WSL2, the PCI bus. In words; NULL when
// there is none. root: "" for the machine; tests give a folder with a dev/, proc/, sys/ and usr/ of its own.
const char *nvidia_card_seen(const char *root);
