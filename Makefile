# A thin front door over CMake. `make help` lists the targets.
BUILD    ?= build
JOBS     ?= $(shell nproc 2>/dev/null || echo 2)
SANITIZE ?=
MODEL    ?= models/sluice-mini-Q4_K_M.gguf
PREFIX   ?= /usr/local
ENGINE   ?= build-engine
WEB      ?= 1

# A sanitizer build lives in a folder of its own, so that it never mixes with the plain one.
ifneq ($(SANITIZE),)
override BUILD := build-$(SANITIZE)
endif
CMAKE_FLAGS = -DCMAKE_BUILD_TYPE=Release -DSANITIZE=$(SANITIZE) -DCMAKE_INSTALL_PREFIX=$(PREFIX) \
    -DCUDA=$(CUDA) -DCUDA_ARCHS="$(CUDA_ARCHS)" -DWEB=$(WEB) $(FLAGS)

.PHONY: all help deps demo test check-gpu gpu-table check-arm check-long format check-format engine install clean

all: $(BUILD)/Makefile
	@cmake --build $(BUILD) -j$(JOBS) --target sluice
	@cat $(BUILD)/web/built.txt

$(BUILD)/Makefile: CMakeLists.txt
	@cmake -S . -B $(BUILD) $(CMAKE_FLAGS)

help:
	@echo "make              build $(BUILD)/sluice"
	@echo "make deps         install what is missing (Debian packages, npm packages of the tests); needs root or sudo"
	@echo "make demo         deps, build, serve the shipped model, ask it, run the workloads against it, print the table, make the pages"
	@echo "make test         build and run every test that needs no GPU; the last line is 'N passed, N failed'"
	@echo "make check-gpu    the cuda backend's tests on a machine with a GPU; needs only make, a C compiler and nvcc"
	@echo "make gpu-table    check-gpu, compute-sanitizer, and the table of rates with intervals, in one go"
	@echo "make check-arm    cross-builds for aarch64, tests its kernels and compares logits under qemu-user"
	@echo "make check-long   the same as test under every sanitizer, check-arm, and a minute of each fuzzer"
	@echo "make engine       build-engine/sluice: no server, no text; needs only a C compiler"
	@echo "make format       clang-format on all sources; make check-format only checks"
	@echo "make install      sluice, sluice.h, libsluice.a, sluice.pc, the shipped model and records under PREFIX=$(PREFIX)"
	@echo "make clean        remove the build folders"
	@echo "WEB=0 leaves the web pages out (they need Node 20 and the npm packages of web/, both from make deps)"
	@echo "CUDA=0 leaves the cuda backend out, CUDA_ARCHS=\"86 90a\" narrows it"
	@echo "SANITIZE=address|undefined|thread  builds and tests with that sanitizer, in build-NAME"

deps:
	@tests/tools/deps

demo: deps all
	@tests/tools/demo $(BUILD)/sluice

test: $(BUILD)/Makefile
	@cmake --build $(BUILD) -j$(JOBS)
	@tests/tools/run-tests $(BUILD) $(SANITIZE)

check-arm:
	@tests/tools/check-arm
check-long:
	@tests/tools/check-long

# The engine-only build: no CMake, no library. The ISA of a file stands in its name, as in CMakeLists.txt.
ENGINE_SRC := $(filter-out src/base/hash.c src/engine/state_file.c src/tools/verify.c src/cli/cmd_serve.c \
    src/cli/cmd_run.c src/cli/cmd_bench.c src/cli/cmd_ab.c src/cli/command_text.c src/cli/cmd_tokenize.c src/cli/cmd_verify.c \
    $(foreach c,check compare export import report,src/cli/cmd_$(c).c), $(foreach d,base gguf quant model backend backend/ref backend/cpu engine \
    tools cli,$(wildcard src/$(d)/*.c)))
ENGINE_SRC += src/machine/nvml.c src/machine/power_cap.c
ENGINE_OBJ := $(ENGINE_SRC:src/%.c=$(ENGINE)/%.o)
ENGINE_CFLAGS := -std=gnu17 -D_GNU_SOURCE -DSLUICE_WITH_TEXT=0 -DSLUICE_WITH_HASH=0 -DSLUICE_WITH_HWLOC=0 -Iinclude -Isrc -O2 -g1 \
    -Wall -Wextra -Werror -Wno-missing-field-initializers -Wno-psabi -fno-math-errno -fno-trapping-math -ffp-contract=off -pthread
# CUDA where nvcc is found: CUDA=0 leaves it out, CUDA_ARCHS narrows it. cudart is linked statically.
NVCC ?= $(shell command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
CUDA ?= $(if $(NVCC),1,0)
CUDA_ARCHS ?= 80 86 89 90a 100 120
comma := ,
ifeq ($(CUDA),1)
CUDA_HOME ?= $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
CUDA_LIB := $(firstword $(wildcard $(CUDA_HOME)/lib64 $(CUDA_HOME)/targets/*/lib))
ENGINE_SRC += $(wildcard src/backend/cuda/*.c)
ENGINE_OBJ += $(patsubst src/%.c,$(ENGINE)/%.o,$(wildcard src/backend/cuda/*.c)) \
    $(patsubst src/%.cu,$(ENGINE)/%.cu.o,$(wildcard src/backend/cuda/*.cu))
ENGINE_CFLAGS += -DSLUICE_WITH_CUDA=1 -I$(CUDA_HOME)/include
ENGINE_LIBS := $(CUDA_LIB)/libcudart_static.a -ldl -lrt
NVCC_FLAGS := -std=c++17 -O3 --fmad=false -Iinclude -Isrc \
    -Xcompiler -Wall,-Wextra,-fvisibility=hidden,-fno-exceptions,-fno-threadsafe-statics \
    $(foreach a,$(CUDA_ARCHS),-gencode=arch=compute_$(a),code=sm_$(a)) \
    $(if $(filter 80,$(CUDA_ARCHS)),-gencode=arch=compute_80$(comma)code=compute_80)
endif
TARGET := $(shell $(CC) -dumpmachine)
X86 := $(filter x86_64%,$(TARGET))
ARM := $(filter aarch64%,$(TARGET))
AVX2 := $(if $(X86),-O3 -mavx2 -mfma -mf16c)
AVX512 := $(if $(X86),$(AVX2) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni)
AMX := $(if $(X86),$(if $(shell echo | $(CC) -mamx-tile -mamx-int8 -E - >/dev/null 2>&1 && echo y),$(AVX512) -mamx-tile -mamx-int8))
NEON := $(if $(ARM),-O3 -march=armv8.2-a+dotprod)
isa = $(if $(filter %_neon,$1),$(NEON))$(if $(filter %_avx2,$1),$(AVX2))$(if $(filter %_avx512,$1),$(AVX512))$(if $(filter %_amx,$1),$(AMX))

# Changes with the flags, so that objects of a build with CUDA are not linked into one without.
$(ENGINE)/flags: FORCE
	@mkdir -p $(ENGINE)
	@echo "$(ENGINE_CFLAGS) $(NVCC_FLAGS)" | cmp -s - $@ || echo "$(ENGINE_CFLAGS) $(NVCC_FLAGS)" >$@
FORCE:

$(ENGINE)/%.o: src/%.c $(ENGINE)/flags $(wildcard include/*.h src/*/*.h src/backend/*/*.h)
	@mkdir -p $(dir $@)
	@$(CC) $(ENGINE_CFLAGS) $(call isa,$*) -c $< -o $@
$(ENGINE)/%.cu.o: src/%.cu $(ENGINE)/flags $(wildcard src/backend/cuda/*.h src/backend/cuda/*.cuh)
	@mkdir -p $(dir $@)
	@$(NVCC) $(NVCC_FLAGS) -c $< -o $@
$(ENGINE)/sluice: $(ENGINE_OBJ)
	@$(CC) -pthread $(LDFLAGS) $^ $(ENGINE_LIBS) -lm -o $@
engine: $(ENGINE)/sluice
	@$(if $(filter 1,$(CUDA)),,echo "CUDA: not built ($(if $(NVCC),CUDA=0,no nvcc))")

# Tests with what the engine-only build needs and nothing more: those of the cuda backend, and those for another processor.
GPU_TESTS := $(ENGINE)/test_cuda_sample $(ENGINE)/test_cuda $(ENGINE)/test_cuda_rows $(ENGINE)/test_cuda_probe $(ENGINE)/test_backend_state
link_test = $(CC) $(ENGINE_CFLAGS) -Itests/gpu -Itests -DTEST_DATA='"$(CURDIR)/tests"' -DREPO_DIR='"$(CURDIR)"' $(LDFLAGS) \
    $1 $(filter-out $(ENGINE)/cli/%,$(ENGINE_OBJ)) $(ENGINE_LIBS) -lm -o $@
$(ENGINE)/amx_emulated.o: tests/kernels/amx_emulated.c $(ENGINE_OBJ)
	@$(CC) $(ENGINE_CFLAGS) -Itests $(AVX512) -c $< -o $@
$(ENGINE)/test_kernels: tests/kernels/test_kernels.c tests/kernels/kernels_rig.c tests/kernels/kernels_bench.c \
    $(ENGINE)/amx_emulated.o
	@$(call link_test,$^)
$(ENGINE)/test_%: tests/kernels/test_%.c $(ENGINE_OBJ)
	@$(call link_test,$<)
$(ENGINE)/test_%: tests/unit/test_%.c $(ENGINE_OBJ)
	@$(call link_test,$<)
check-gpu: $(ENGINE)/sluice $(GPU_TESTS)
	@for t in $(GPU_TESTS); do $$t || exit 1; done
# That, a pass of compute-sanitizer and the table of SPEED.md.
gpu-table:
	@tests/tools/gpu-table

SOURCES = $(shell git ls-files 'src/*.[ch]' 'include/*.h' 'examples/*.c' 'tests/*.[ch]')
format:
	@clang-format -i $(SOURCES)
check-format:
	@clang-format --dry-run --Werror $(SOURCES)

install: all
	@cmake --build $(BUILD) -j$(JOBS) --target libsluice
	@cmake --install $(BUILD) --prefix $(PREFIX)
	@install -D -m 644 $(MODEL) $(DESTDIR)$(PREFIX)/share/sluice/$(notdir $(MODEL))
	@install -d $(DESTDIR)$(PREFIX)/share/sluice/results
	@install -m 644 bench/results/*.jsonl $(DESTDIR)$(PREFIX)/share/sluice/results

clean:
	@rm -rf build build-address build-undefined build-thread build-engine build-arm build-arm-sanitized build-fuzz
