// nvidia.c - see nvidia.h.
#include "kernels/nvidia.h"
#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define VENDOR_NVIDIA 0x10de
#define CLASS_DISPLAY 0x03 // the first byte of a PCI class: VGA and 3D controllers

static bool any(const char *root, const char *pattern) {
    char path[512];
    glob_t found;
    if (snprintf(path, sizeof path, "%s%s", root, pattern) >= (int)sizeof path) return false;
    bool good = !glob(path, 0, NULL, &found);
    if (good) globfree(&found);
    return good;
}

// The number in folder/name, "0x10de" or the like; 0 when there is none.
static unsigned long read_hexadecimal(const char *folder, const char *name) {
    char path[512], text[32];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) return 0;
    FILE *file = fopen(path, "r");
    unsigned long number = file && fgets(text, sizeof text, file) ? strtoul(text, NULL, 16) : 0;
    if (file) fclose(file);
    return number;
}

static bool on_pci_bus(const char *root) {
    char path[512];
    glob_t found;
    if (snprintf(path, sizeof path, "%s/sys/bus/pci/devices/*", root) >= (int)sizeof path) return false;
    if (glob(path, 0, NULL, &found)) return false;
    bool good = false;
    for (size_t i = 0; i < found.gl_pathc && !good; i++)
        good = read_hexadecimal(found.gl_pathv[i], "vendor") == VENDOR_NVIDIA &&
               read_hexadecimal(found.gl_pathv[i], "class") >> 16 == CLASS_DISPLAY;
    globfree(&found);
    return good;
}

const char *nvidia_card_seen(const char *root) {
    if (any(root, "/dev/dxg") && any(root, "/usr/lib/wsl/lib/libcuda.so*")) return "Windows shares it with WSL2";
    if (any(root, "/dev/nvidia[0-9]*")) return "it has device files";
    if (any(root, "/proc/driver/nvidia/gpus/*")) return "the driver lists it";
    return on_pci_bus(root) ? "it is on the PCI bus" : NULL;
}
