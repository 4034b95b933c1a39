# lisa: `make` builds ./lisa, `make help` lists the rest. Nothing is installed by `make` itself; `make deps` does that.

ifeq ($(origin CC),default)
CC := gcc
endif
CXX ?= g++
BUILD ?= build
PREFIX ?= /usr/local
SANITIZE ?=
V ?=

# As many jobs as there are processors, unless -j says otherwise. A make that is called from here shares its caller's.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif

# $(call say,CC,file) before a command prints this instead of the command; V=1 prints the commands.
say = $(if $(V),,@printf '%-5s %s\n' $(1) $(2);)

FOLDERS := base kernels kernels/cpu kernels/cuda tokenizer data model train cli
# absent.c is linked only where there is no nvcc.
C_SOURCES := $(filter-out kernels/cuda/absent.c,$(wildcard $(addsuffix /*.c,$(FOLDERS))))
CXX_SOURCES := $(wildcard $(addsuffix /*.cc,$(FOLDERS)))
TESTS := $(patsubst tests/%.c,%,$(wildcard tests/test_*.c))
TEST_SUPPORT = $(patsubst %.c,$(BUILD)/%.o,$(filter-out tests/test_%.c,$(wildcard tests/*.c)))
FUZZERS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
APT_PACKAGES := gcc g++ make git ca-certificates pkg-config libsentencepiece-dev zlib1g-dev libopenblas-dev libjansson-dev \
	libyaml-dev libutf8proc-dev libcmocka-dev

# What no sanitizer is put into is made once: the kernels for the card, emulated and checked, and the compiler's reports.
KERNELS := $(BUILD)

# A sanitizer build has objects of its own.
ifneq ($(SANITIZE),)
BUILD := $(BUILD)/sanitize
SANITIZE_FLAGS := -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all
endif

WARNINGS := -Wall -Wextra -Werror -pedantic -Wshadow -Wvla
COMMON := -O2 -g -I. -pthread -MMD -MP $(SANITIZE_FLAGS) $(WARNINGS)
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -ffp-contract=off $(COMMON) $(LOOPS) -Wstrict-prototypes -Wmissing-prototypes $(CFLAGS)
ALL_CXXFLAGS := -std=c++17 $(COMMON) $(CXXFLAGS)

# ---- CUDA: nvcc from CUDA_HOME, PATH or /usr/local/cuda; NVCC= (empty) builds without. CUDA_ARCH: for which cards.
ifeq ($(origin NVCC),undefined)
NVCC := $(firstword $(if $(CUDA_HOME),$(wildcard $(CUDA_HOME)/bin/nvcc)) $(shell command -v nvcc) \
	$(wildcard /usr/local/cuda/bin/nvcc))
endif
CUDA_ARCH ?=
CUDA_SOURCES := $(wildcard kernels/cuda/*.cu)
# Emulated, matrix products are those of tests/emulator/gemm_plain.cc.
EMULATED_SOURCES := $(filter-out kernels/cuda/gemm_cublaslt.cu,$(CUDA_SOURCES)) $(wildcard tests/*.cu)
NVCC_FLAGS = -std=c++17 -O3 -I. -lineinfo -MMD -MP -Xcompiler -Wall,-Wextra,-Werror,-Wshadow
ifeq ($(NVCC),)
CUDA_OBJECTS := $(BUILD)/kernels/cuda/absent.o
else
CUDA_OBJECTS := $(CUDA_SOURCES:%.cu=$(KERNELS)/%.o)
CUDA_LIBRARIES := $(addprefix -L$(dir $(realpath $(NVCC)))../,lib64 lib targets/$(shell uname -m)-linux/lib) \
	-lcudart_static -ldl -lrt
endif

# The same sources for the tests, emulated on the CPU: once plain, once with every memory access of a kernel checked.
EMULATOR_SOURCES := $(filter-out tests/emulator/on_card.cc,$(wildcard tests/emulator/*.cc))
EMULATED_OBJECTS := $(EMULATED_SOURCES:%.cu=$(KERNELS)/emulated/%.o) $(EMULATOR_SOURCES:%.cc=$(KERNELS)/emulated/%.o)
CHECKED_OBJECTS := $(EMULATED_SOURCES:%.cu=$(KERNELS)/checked/%.o) $(EMULATOR_SOURCES:%.cc=$(KERNELS)/emulated/%.o)
EMULATION_FLAGS = -std=c++17 -g -I. -Itests/emulator -pthread -MMD -MP -ffp-contract=off -fno-strict-aliasing $(WARNINGS) -Wno-unknown-pragmas
# The compiler puts a call before every load and store; tests/emulator/hooks.cc, not the sanitizer's library, takes them.
# clang would make calls of memcpy, which it does not announce, of loops that copy.
CHECK_FLAGS := -O1 -fsanitize=thread $(if $(findstring clang,$(CXX)),-mllvm -disable-loop-idiom-all)

LIBRARIES := -lsentencepiece -lopenblas -ljansson -lyaml -lutf8proc -lz -lm -ldl
LINK = $(CXX) -pthread $(SANITIZE_FLAGS) $(LDFLAGS)

OBJECTS := $(C_SOURCES:%.c=$(BUILD)/%.o) $(CXX_SOURCES:%.cc=$(BUILD)/%.o)
CHECKED_TESTS := $(filter test_cuda_%,$(TESTS))
PROGRAM := $(if $(filter build,$(BUILD)),lisa,$(BUILD)/lisa)

.DEFAULT_GOAL := all
.PHONY: all check-deps check-fuzz-deps deps test oracle demo fuzz bench gpu-check install format check-format check-includes tidy clean help FORCE

all: $(PROGRAM) ## build ./lisa (what make alone does)

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16
	@echo "settings: CC=clang CXX=clang++ BUILD=dir PREFIX=dir SANITIZE=address,undefined V=1 (show whole commands)"
	@echo "as in:    make SANITIZE=address,undefined test"

check-deps:
	@tests/check_deps "$(CC)" "$(CXX)" $(APT_PACKAGES) || { echo "      (make deps does that)" >&2; exit 1; }

check-fuzz-deps:
	@tests/check_deps "$(FUZZ_CLANG)" "$(FUZZ_CLANG:clang%=clang++%)" clang-14 libclang-rt-14-dev $(APT_PACKAGES)

deps: ## install the packages that the build and the tests need (apt, with sudo when not root)
	@tests/install_deps $(APT_PACKAGES)

# The loops of the kernels are vectorised; none of these flags changes a result (no -ffast-math).
$(BUILD)/kernels/cpu/%.o: LOOPS = -O3 -fno-math-errno -fno-trapping-math

$(BUILD)/%.o: %.c | check-deps
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(ALL_CFLAGS) -c $< -o $@

$(BUILD)/%.o: %.cc | check-deps
	@mkdir -p $(@D)
	$(call say,CXX,$<) $(CXX) $(ALL_CXXFLAGS) -c $< -o $@

# nvcc's flags for the architectures; the file changes only when they do, and is empty without nvcc.
$(KERNELS)/cuda_flags: FORCE
	@mkdir -p $(@D)
	@if [ -n "$(NVCC)" ]; then kernels/cuda/architectures "$(NVCC)" "$(CUDA_ARCH)"; fi >$@.new 2>$@.notes || \
		{ cat $@.notes >&2; exit 1; }
	@cmp -s $@ $@.new || { cat $@.notes; mv $@.new $@; }

$(KERNELS)/%.o: %.cu $(KERNELS)/cuda_flags | check-deps
	@mkdir -p $(@D)
	$(call say,NVCC,$<) $(NVCC) $(NVCC_FLAGS) $$(cat $(KERNELS)/cuda_flags) -c $< -o $@

$(KERNELS)/emulated/%.o: %.cu | check-deps
	@mkdir -p $(@D)
	$(call say,EMU,$<) $(CXX) $(EMULATION_FLAGS) -O2 -x c++ -c $< -o $@

$(KERNELS)/emulated/%.o: %.cc | check-deps
	@mkdir -p $(@D)
	$(call say,EMU,$<) $(CXX) $(EMULATION_FLAGS) -O2 -c $< -o $@

$(KERNELS)/checked/%.o: %.cu | check-deps
	@mkdir -p $(@D)
	$(call say,CHECK,$<) $(CXX) $(EMULATION_FLAGS) $(CHECK_FLAGS) -x c++ -c $< -o $@

# The commit is compiled into main.c alone; the header changes only when the commit does.
$(BUILD)/version.h: FORCE
	@mkdir -p $(@D)
	@commit=$$(git describe --always --dirty 2>/dev/null || echo unknown); \
	line="#define LISA_COMMIT \"$$commit\""; \
	[ "$$(cat $@ 2>/dev/null)" = "$$line" ] || echo "$$line" > $@

$(BUILD)/main.o: $(BUILD)/version.h
$(BUILD)/main.o: ALL_CFLAGS += -I$(BUILD)

$(PROGRAM): $(OBJECTS) $(CUDA_OBJECTS) $(BUILD)/main.o $(KERNELS)/cuda_flags
	$(call say,LINK,$@) $(LINK) $(filter %.o,$^) $(LIBRARIES) $(CUDA_LIBRARIES) -o $@
	@$(if $(NVCC),,echo "$@ computes on the CPU alone: no nvcc in CUDA_HOME, PATH or /usr/local/cuda")

# Every tests/test_*.c is one cmocka program, with the emulated CUDA backend; test_cuda_* also with the checked one, but not
# in a sanitizer's build: what that one checks is the kernels' memory, where no sanitizer looks.
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(TEST_SUPPORT) $(OBJECTS) $(EMULATED_OBJECTS)
	$(call say,LINK,$@) $(LINK) $^ -lcmocka $(LIBRARIES) -o $@

$(BUILD)/checked/tests/%: $(BUILD)/tests/%.o $(TEST_SUPPORT) $(OBJECTS) $(CHECKED_OBJECTS)
	@mkdir -p $(@D)
	$(call say,LINK,$@) $(LINK) $^ -lcmocka $(LIBRARIES) -o $@

# How cuBLASLt is used is tested with a stand-in for it; see the head of the test.
CUBLASLT_OBJECTS := $(filter-out %/gemm_plain.o,$(EMULATED_OBJECTS)) $(KERNELS)/emulated/kernels/cuda/gemm_cublaslt.o
$(BUILD)/tests/test_cublaslt: $(BUILD)/tests/test_cublaslt.o $(TEST_SUPPORT) $(OBJECTS) $(CUBLASLT_OBJECTS) \
		$(BUILD)/tests/cublaslt/libcublasLt.so
	$(call say,LINK,$@) $(LINK) -Wl,--wrap=dlopen,--wrap=dlerror $(filter %.o,$^) -lcmocka $(LIBRARIES) -o $@

$(BUILD)/tests/cublaslt/libcublasLt.so: tests/cublaslt/fake.c | check-deps
	@mkdir -p $(@D)
	$(call say,CC,$<) $(CC) $(ALL_CFLAGS) -Wno-missing-prototypes -fPIC -shared $< -o $@

# The same test programs on a real card.
ON_CARD_OBJECTS := $(CUDA_OBJECTS) $(patsubst %.cu,$(KERNELS)/%.o,$(wildcard tests/*.cu)) $(BUILD)/tests/emulator/on_card.o
$(BUILD)/gpu/tests/%: $(BUILD)/tests/%.o $(TEST_SUPPORT) $(OBJECTS) $(ON_CARD_OBJECTS)
	@mkdir -p $(@D)
	$(call say,LINK,$@) $(LINK) $^ -lcmocka $(LIBRARIES) $(CUDA_LIBRARIES) -o $@

GPU_TESTS := $(CHECKED_TESTS:%=$(BUILD)/gpu/tests/%)
gpu-tests: $(GPU_TESTS)
.PHONY: gpu-tests

.SECONDARY:
TEST_PROGRAMS := $(TESTS:%=$(BUILD)/tests/%) $(if $(SANITIZE),,$(CHECKED_TESTS:%=$(BUILD)/checked/tests/%))
tests: $(PROGRAM) $(TEST_PROGRAMS)
.PHONY: tests

test: ## build and run every test; the last line counts them
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory tests check-includes check-ptx
	@BUILD=$(BUILD) LISA=./$(PROGRAM) tests/run_tests $(TEST_PROGRAMS)

oracle: ## compare exported models with llama.cpp, gguf-py and transformers, where these install
	@$(MAKE) --no-print-directory $(PROGRAM) $(BUILD)/tests/oracle/logits
	@LISA=./$(PROGRAM) LOGITS=$(BUILD)/tests/oracle/logits tests/oracle/run $(MODEL)

gpu-check: ## prove the CUDA part on this machine's card and measure it, in under 8 minutes
	+@MAKE="$(MAKE)" NVCC=$(NVCC) BUILD=$(BUILD) LISA=./$(PROGRAM) bench/gpu_check $(GPU_TESTS)

# What ptxas makes of each kernel. CUDA_ARCH=all: for every card of kernels/cuda/architectures that this nvcc knows.
ALL_CARDS := sm_80 sm_86 sm_89 sm_90 sm_120
PTX_CARDS = $(if $(filter all,$(CUDA_ARCH)),$(filter $(shell $(NVCC) --list-gpu-code),$(ALL_CARDS)),sm_80 sm_89)
PTX_REPORTS = $(KERNELS)/ptxas/adamw.ptx $(foreach card,$(PTX_CARDS),$(CUDA_SOURCES:kernels/cuda/%.cu=$(KERNELS)/ptxas/$(card)/%.log))

define PTX_REPORT
$(KERNELS)/ptxas/$(1)/%.log: kernels/cuda/%.cu
	@mkdir -p $$(@D)
	$$(call say,PTXAS,"$$< $(1)") $$(NVCC) $$(NVCC_FLAGS) -arch=$(1) -Xptxas -v -MF $$(@:.log=.d) -MT $$@ -cubin $$< -o $$(@:.log=.cubin) 2>$$@ || { cat $$@; rm $$@; exit 1; }
endef
$(foreach card,$(ALL_CARDS),$(eval $(call PTX_REPORT,$(card))))

$(KERNELS)/ptxas/adamw.ptx: kernels/cuda/adamw.cu kernels/adamw.h
	@mkdir -p $(@D)
	$(call say,PTX,$<) $(NVCC) -std=c++17 -O3 -I. -arch=sm_89 -ptx $< -o $@

# Each .cu compiles by itself with nothing but the language and the include path.
PLAIN_COMPILES = $(CUDA_SOURCES:kernels/cuda/%.cu=$(KERNELS)/ptxas/plain/%.o)
$(KERNELS)/ptxas/plain/%.o: kernels/cuda/%.cu
	@mkdir -p $(@D)
	$(call say,NVCC,$<) $(NVCC) -std=c++17 -I. -MMD -MP -c $< -o $@

.PHONY: check-ptx registers
ifeq ($(NVCC),)
check-ptx registers:
	@echo "$@: skipped, there is no nvcc"
else
check-ptx: $(PTX_REPORTS) | $(PLAIN_COMPILES) ## fail when a CUDA kernel spills registers (CUDA_ARCH=all: on any card)
	@tests/check_ptxas kernels/cuda/registers.txt $^
registers: ## record how many registers each CUDA kernel takes
	@$(MAKE) --no-print-directory CUDA_ARCH=all record-registers
record-registers: $(PTX_REPORTS)
	@tests/check_ptxas --write kernels/cuda/registers.txt $^
.PHONY: record-registers
endif

# What every program of the checked emulation is linked from.
MUTANT_OBJECTS = $(TEST_SUPPORT) $(OBJECTS) $(CHECKED_OBJECTS)
mutate: $(MUTANT_OBJECTS) $(CHECKED_TESTS:%=$(BUILD)/tests/%.o) ## delete each barrier of the CUDA kernels: do the tests notice?
	@BUILD=$(BUILD) COMPILE="$(CXX) $(filter-out -I%,$(EMULATION_FLAGS)) $(CHECK_FLAGS)" LINK="$(LINK)" \
		OBJECTS="$(MUTANT_OBJECTS)" LIBRARIES="$(LIBRARIES)" tests/mutate $(MUTATE)
.PHONY: mutate

demo: ## fine-tune SmolLM2-135M-Instruct on examples/identity.jsonl and show the difference
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory all
	@examples/demo $(MODEL)

# Every tests/fuzz/fuzz_*.c is one libFuzzer target over objects of its own, made by clang with all checks.
FUZZ_SECONDS ?= 30
FUZZ_FLAGS := -O1 -g -I. -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FUZZ_OBJECTS := $(C_SOURCES:%.c=$(BUILD)/fuzz/%.o) $(CXX_SOURCES:%.cc=$(BUILD)/fuzz/%.o) $(BUILD)/fuzz/kernels/cuda/absent.o
FUZZ_CLANG ?= clang
FUZZ_PROGRAMS := $(FUZZERS:%=$(BUILD)/fuzz/%)

$(BUILD)/fuzz/%.o: %.c | check-fuzz-deps
	@mkdir -p $(@D)
	$(call say,CC,$<) $(FUZZ_CLANG) -std=c11 -D_GNU_SOURCE -ffp-contract=off -MMD -MP $(FUZZ_FLAGS) -c $< -o $@

$(BUILD)/fuzz/%.o: %.cc | check-fuzz-deps
	@mkdir -p $(@D)
	$(call say,CXX,$<) $(FUZZ_CLANG:clang%=clang++%) -std=c++17 -MMD -MP $(FUZZ_FLAGS) -c $< -o $@

$(BUILD)/fuzz/fuzz_%: $(BUILD)/fuzz/tests/fuzz/fuzz_%.o $(FUZZ_OBJECTS)
	$(call say,LINK,$@) $(FUZZ_CLANG:clang%=clang++%) -pthread -fsanitize=fuzzer,address,undefined $^ $(LIBRARIES) -o $@

fuzz: $(FUZZ_PROGRAMS) ## run each parser's fuzz target for FUZZ_SECONDS (needs clang and libclang-rt)
	@tests/fuzz/run $(FUZZ_SECONDS) $(FUZZ_PROGRAMS)

bench: all ## measure a training step against the machine's own matrix multiplication rate
	@bench/run

install: all ## copy the program to PREFIX/bin
	install -D -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/lisa

STYLED := $(shell git ls-files '*.c' '*.h' '*.cc' '*.cu' '*.cuh' 2>/dev/null)
format: ## rewrite the sources in the house style
	clang-format-14 -i $(STYLED)

check-format: ## fail when a source is not in the house style
	@clang-format-14 --dry-run -Werror $(STYLED)

check-includes: ## fail when a folder includes one above it
	@tests/check_includes

TIDY_FLAGS := -std=c11 -D_GNU_SOURCE -I. -I$(BUILD)
tidy: $(BUILD)/version.h ## clang-tidy over the sources
	@clang-tidy-14 --quiet base/error.c -- $(TIDY_FLAGS)
	@printf '%s\0' $(filter-out base/error.c,$(C_SOURCES)) main.c | \
		xargs -0 -n 1 -P "$$(nproc)" sh -c 'clang-tidy-14 --quiet "$$1" -- $(TIDY_FLAGS) -include tests/analyser.h' sh

clean: ## remove what was built
	rm -rf build lisa

-include $(wildcard $(KERNELS)/ptxas/*/*.d) $(OBJECTS:.o=.d) $(CUDA_OBJECTS:.o=.d) $(EMULATED_OBJECTS:.o=.d) $(CHECKED_OBJECTS:.o=.d) $(FUZZ_OBJECTS:.o=.d) $(BUILD)/main.d $(wildcard $(BUILD)/tests/*.d $(BUILD)/tests/oracle/*.d)
