// cublaslt.cu - finding and opening cuBLASLt; see cublaslt.h.
#include "kernels/cuda/cublaslt.h"
#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int MAJORS[] = {13, 12, 11}; // with the interface above

// Where the file may lie: patterns of folders, some below an environment variable.
typedef struct Place {
    const char *variable; // NULL: the pattern is whole
    const char *pattern;
} Place;

// An empty pattern stands for the loader's own search.
static const Place PLACES[] = {
    {"CUDA_HOME", "/lib64"},
    {"CUDA_HOME", "/lib"},
    {NULL, ""},
    {NULL, "/usr/local/cuda/lib64"},
    {NULL, "/usr/local/cuda-*/lib64"},
    {"CONDA_PREFIX", "/lib"},
    {"CONDA_PREFIX", "/lib/python3*/site-packages/nvidia/cu*/lib"},
    {"VIRTUAL_ENV", "/lib/python3*/site-packages/nvidia/cu*/lib"},
    {"HOME", "/.local/lib/python3*/site-packages/nvidia/cu*/lib"},
    {NULL, "/usr/local/lib/python3*/dist-packages/nvidia/cu*/lib"},
};
#define PLACE_COUNT (sizeof PLACES / sizeof *PLACES)

// ---- looking for the file ----------------------------------------------------------------------------------------

// Tries every file that matches "folder pattern/name". why: keeps what the loader said of a file that is there.
static void *open_below(const char *folder, const char *pattern, const char *name, char *path, size_t size, char *why,
                        size_t why_size) {
    char file[512];
    glob_t found;
    void *library = NULL;
    if (snprintf(file, sizeof file, "%s%s/%s", folder, pattern, name) >= (int)sizeof file) return NULL;
    if (glob(file, 0, NULL, &found)) return NULL;
    for (size_t i = 0; i < found.gl_pathc && !library; i++) {
        library = dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_LOCAL);
        if (library)
            snprintf(path, size, "%s", found.gl_pathv[i]);
        else
            snprintf(why, why_size, "%s", dlerror());
    }
    globfree(&found);
    return library;
}

static void *open_in(const Place *place, const char *name, char *path, size_t size, char *why, size_t why_size) {
    const char *folder = place->variable ? getenv(place->variable) : "";
    if (!folder || (place->variable && !*folder)) return NULL;
    if (place->variable || *place->pattern) return open_below(folder, place->pattern, name, path, size, why, why_size);
    snprintf(path, size, "%s", name);
    return dlopen(name, RTLD_NOW | RTLD_LOCAL);
}

static void *open_any(int major, char *path, size_t size, char *why, size_t why_size) {
    for (int i = -1; i < (int)(sizeof MAJORS / sizeof *MAJORS); i++) {
        char name[32];
        int version = i < 0 ? major : MAJORS[i];
        if (i >= 0 && version == major) continue;
        snprintf(name, sizeof name, "libcublasLt.so.%d", version);
        for (size_t p = 0; p < PLACE_COUNT; p++) {
            void *library = open_in(&PLACES[p], name, path, size, why, why_size);
            if (library) return library;
        }
    }
    return NULL;
}

static bool not_found(int major, const char *why, Error *error) {
    char places[900] = "";
    for (size_t i = 0, used = 0; i < PLACE_COUNT && used < sizeof places; i++) {
        const Place *place = &PLACES[i];
        bool loader = !place->variable && !*place->pattern;
        used += (size_t)snprintf(places + used, sizeof places - used, "%s%s%s%s", i ? ", " : "",
                                 place->variable ? "$" : "", place->variable ? place->variable : "",
                                 loader ? "the loader's folders (LD_LIBRARY_PATH, ldconfig)" : place->pattern);
    }
    error_set(error, "cuBLASLt was not found: no libcublasLt.so.%d (nor of another version) could be opened in %s%s%s",
              major, places, *why ? "; of the one that is there the loader says: " : "", why);
    return error_hint(error,
                      "install it (apt install libcublas-%d-0, or pip install nvidia-cublas), or name its folder in "
                      "LD_LIBRARY_PATH",
                      major);
}

// ---- its functions -----------------------------------------------------------------------------------------------

typedef struct Symbol {
    const char *name;
    void **function;
} Symbol;

#define SYMBOL(name)                                                                                                   \
    { "cublasLt" #name, reinterpret_cast<void **>(&lt->name) }

static bool find_functions(CublasLt *lt, Error *error) {
    const Symbol symbols[] = {
        SYMBOL(Create),
        SYMBOL(Destroy),
        SYMBOL(MatmulDescCreate),
        SYMBOL(MatmulDescDestroy),
        SYMBOL(MatmulDescSetAttribute),
        SYMBOL(MatrixLayoutCreate),
        SYMBOL(MatrixLayoutDestroy),
        SYMBOL(MatmulPreferenceCreate),
        SYMBOL(MatmulPreferenceDestroy),
        SYMBOL(MatmulPreferenceSetAttribute),
        SYMBOL(MatmulAlgoGetHeuristic),
        SYMBOL(Matmul),
    };
    for (const Symbol &symbol : symbols) {
        *symbol.function = dlsym(lt->library, symbol.name);
        if (*symbol.function) continue;
        error_set(error, "%s has no function %s", lt->path, symbol.name);
        return error_hint(error, "install the cuBLAS of CUDA 11 or newer");
    }
    *reinterpret_cast<void **>(&lt->GetStatusString) = dlsym(lt->library, "cublasLtGetStatusString");
    return true;
}

bool cublaslt_open(CublasLt *lt, int major, Error *error) {
    char why[256] = "";
    *lt = CublasLt{};
    lt->library = open_any(major, lt->path, sizeof lt->path, why, sizeof why);
    return lt->library ? find_functions(lt, error) : not_found(major, why, error);
}

void cublaslt_close(CublasLt *lt) {
    if (lt->library) dlclose(lt->library);
    *lt = CublasLt{};
}
