# Developers' targets. `make help` lists them; packagers need only ./configure --add-dynamic-module.
#
#   CC=clang            the module with clang (build/module-clang)
#   CXX=clang++-14      the unit programs with clang (build/unit-clang)
#   NGX_SRC=DIR         another nginx source tree (build/module-VERSION), NGX_CONF_FLAGS="…" its flags
#   SECONDS=60          how long `make fuzz` runs each parser
#
# Everything made is below build/. Two makes at once are safe: each directory is made under a lock.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := module

JOBS ?= $(shell nproc)
NICE ?=
PYTHON := /usr/bin/python3
CLANG := $(firstword $(notdir $(wildcard /usr/bin/clang-14 /usr/bin/clang)))
CLANGXX := $(firstword $(notdir $(wildcard /usr/bin/clang++-14 /usr/bin/clang++)))
CLANG_FORMAT := $(firstword $(notdir $(wildcard /usr/bin/clang-format-14 /usr/bin/clang-format)))
SUBMAKE = $(NICE) $(MAKE) -s -j$(JOBS) --no-print-directory

SOURCES := $(sort $(wildcard src/*/*.cpp))
HEADERS := $(sort $(wildcard src/*/*.hpp))
SCRIPTS := $(sort $(wildcard src/*/*.lua))
PURE := $(filter src/core/% src/store/%,$(SOURCES))

# Reading the standard library took most of each compilation: what we include of it is compiled once a directory.
# `make check-warnings` builds without, so that no file leans on it.
STD_HPP = { echo '\#ifndef STD_HPP'; echo '\#define STD_HPP'; grep -ho '^\#include <[a-z_]*>' $(SOURCES) $(HEADERS) | sort -u; echo '\#endif'; }

help: ## this list
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "%-16s %s\n", $$1, $$2 }'

# --- the module -------------------------------------------------------------------------------
# nginx's configure wants a directory it may write to, and /usr/share/nginx/src is root's: each
# variant gets a directory of links to the tree, and its own objs/.

NGX_SRC ?= /usr/share/nginx/src
NGX_VERSION := $(shell sed -n 's/^\#define NGINX_VERSION *"\(.*\)"/\1/p' $(NGX_SRC)/src/core/nginx.h 2>/dev/null)
NGX_CONFIGURE := $(firstword $(wildcard $(NGX_SRC)/configure $(NGX_SRC)/auto/configure))
# What the packaged nginx was configured with, as far as it concerns modules.
NGX_COMPAT_FLAGS := --with-compat --with-threads --with-http_ssl_module --with-http_v2_module \
	--with-http_realip_module --with-http_stub_status_module --with-http_auth_request_module --with-debug \
	$(if $(wildcard $(NGX_SRC)/src/http/v3),--with-http_v3_module)
NGX_CONF_FLAGS ?= $(if $(wildcard $(NGX_SRC)/conf_flags),$(shell . $(NGX_SRC)/conf_flags && echo "$${NGX_CONF_FLAGS[@]}"),$(NGX_COMPAT_FLAGS))

CC_NAME := $(if $(findstring clang,$(CC)),-clang)
MODULE_CC := $(if $(CC_NAME),$(if $(shell command -v $(CC)),$(CC),$(CLANG)),gcc)
NGX_NAME := $(if $(filter-out /usr/share/nginx/src,$(NGX_SRC)),-$(NGX_VERSION))
MODULE := build/module$(CC_NAME)$(NGX_NAME)

HARDENING := -fstack-protector-strong
LINK_HARDENING := -Wl,-z,relro,-z,now
OPTIMISED := -O2 -g $(HARDENING) -D_FORTIFY_SOURCE=2 -ffile-prefix-map=$(CURDIR)=.
# nginx says -Wno-unused-parameter, which would win over -Wextra.
WARNINGS := -Wall -Wextra -Wunused-parameter
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

# Set by the recursive calls below: where, with which flags of C and C++, of C++ alone, of the linker.
DIR ?= $(MODULE)
DIR_CFLAGS ?= $(OPTIMISED)
DIR_CXXFLAGS ?=
DIR_LDFLAGS ?= $(LINK_HARDENING)
DIR_CC ?= $(MODULE_CC)
DIR_PCH ?= std.hpp.gch

# $(call module,DIR[,C flags[,C++ flags[,linker flags]]])
module = mkdir -p build && flock $(1).lock $(SUBMAKE) module-dir DIR=$(1) \
	DIR_CFLAGS='$(or $(2),$(OPTIMISED))' DIR_CXXFLAGS='$(3)' DIR_LDFLAGS='$(or $(4),$(LINK_HARDENING))'

.PHONY: help FORCE module module-faults module-asan module-dir nginx nginx-asan
module: ## build/ngx_http_rooms_module.so (CC=clang and NGX_SRC=DIR: into a directory of their own)
	@$(call module,$(MODULE))
ifeq ($(MODULE),build/module)
	@cmp -s $(MODULE)/ngx_http_rooms_module.so build/ngx_http_rooms_module.so || \
		{ cp $(MODULE)/ngx_http_rooms_module.so build/.new.so && mv build/.new.so build/ngx_http_rooms_module.so; }
	@echo build/ngx_http_rooms_module.so
else
	@echo $(MODULE)/ngx_http_rooms_module.so
endif

module-faults: ## the same with -DROOMS_FAULTS, for tests that kill workers at every step
	@$(call module,$(MODULE)-faults,-O1 -g1 $(HARDENING) -ffile-prefix-map=$(CURDIR)=.,-DROOMS_FAULTS)

# UBSan for what is ours: nginx' own C stores at odd addresses, and copies nothing from null, as it means to.
# nodelete: it is still there when leaks are named, after nginx has closed it.
comma := ,
module-asan: ## the same (with fault points) under ASan and UBSan
	@$(call module,$(MODULE)-asan,-O1 -g -fsanitize=address -fno-omit-frame-pointer -ffile-prefix-map=$(CURDIR)=.,-DROOMS_FAULTS -fsanitize=undefined -fno-sanitize-recover=all,$(SANITIZE) -Wl$(comma)-z$(comma)nodelete $(if $(CC_NAME),-shared-libsan))

.PHONY: deb deb-check
deb: ## build/libnginx-mod-http-rooms_….deb, for the nginx of nginx-dev
	@packaging/deb

deb-check: deb ## installs, upgrades and purges it on this machine's nginx, overlaid; needs root
	@prove --timer t/package.py

nginx: module ## with NGX_SRC=DIR: that tree's nginx itself, for the tests
	@flock $(MODULE).lock $(SUBMAKE) -C $(MODULE) -f objs/Makefile binary
	@echo $(MODULE)/objs/nginx

nginx-asan: module-asan
	@flock $(MODULE)-asan.lock $(SUBMAKE) -C $(MODULE)-asan -f objs/Makefile binary

module-dir: $(DIR)/objs/Makefile FORCE
	@echo "  module in $(DIR)"
	@$(MAKE) -s --no-print-directory -C $(DIR) -f with-deps.mk modules
	@cmp -s $(DIR)/objs/ngx_http_rooms_module.so $(DIR)/ngx_http_rooms_module.so || { \
		cp $(DIR)/objs/ngx_http_rooms_module.so $(DIR)/.new.so && \
		mv $(DIR)/.new.so $(DIR)/ngx_http_rooms_module.so; }

$(DIR)/objs/Makefile: $(DIR)/configured-with config
	@test -n '$(NGX_CONFIGURE)' || { echo 'no nginx source in $(NGX_SRC): install nginx-dev, or NGX_SRC=DIR'; exit 1; }
	@for part in auto src conf contrib man docs; do \
		! test -e $(NGX_SRC)/$$part || ln -sfn $(abspath $(NGX_SRC))/$$part $(DIR)/$$part; done
	@cd $(DIR) && rm -rf objs && ROOMS_DEPFILES=1 ROOMS_CXXFLAGS='$(WARNINGS) $(DIR_CXXFLAGS) $(DIR_PCH:%.gch=-include %)' \
		$(abspath $(NGX_CONFIGURE)) $(NGX_CONF_FLAGS) --with-cc=$(DIR_CC) \
		--with-cc-opt='$(DIR_CFLAGS)' --with-ld-opt='$(DIR_LDFLAGS)' \
		--add-dynamic-module=$(CURDIR) >configure.log || { tail -20 configure.log; exit 1; }
	@printf '%s\n' 'include objs/Makefile' '-include $$(wildcard objs/addon/*/*.d)' \
		'objs/addon/store/redis_scripts.o: $(abspath $(SCRIPTS))' \
		'$(SOURCES:src/%.cpp=objs/addon/%.o): | $(DIR_PCH)' \
		'std.hpp.gch: std.hpp; rm -f $$@ && $$(CC) -c -fPIC $$(CFLAGS) -x c++-header $$< -o $$@' >$(DIR)/with-deps.mk
	@$(STD_HPP) >$(DIR)/std.hpp

# configure runs again only when its arguments or the list of sources change.
$(DIR)/configured-with: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(shell cat VERSION) $(NGX_SRC) $(DIR_CC) $(DIR_CFLAGS) $(DIR_CXXFLAGS) $(DIR_LDFLAGS) $(WARNINGS)' $(NGX_CONF_FLAGS) $(SOURCES) >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

# --- unit programs, without nginx -------------------------------------------------------------

CXX_NAME := $(if $(findstring clang,$(CXX)),-clang)
UNIT ?= build/unit$(CXX_NAME)
UNIT_FLAGS ?= -O0 -g1
# The same under ASan and UBSan, which takes the compiler three times as long.
UNIT_ASAN := UNIT=$(UNIT)-asan UNIT_FLAGS='-O1 -g1 $(SANITIZE)'
UNIT_TESTS := $(sort $(wildcard t/unit/*_test.cpp))
UNIT_PROGRAMS = $(UNIT_TESTS:t/unit/%.cpp=$(UNIT)/%) $(UNIT)/pg_link
UNIT_LIBS := -lcmocka -lcrypto -ljansson -lz -lhiredis -lpq -lpthread
PG_INCLUDE := $(or $(shell pg_config --includedir 2>/dev/null),/usr/include/postgresql)
CXXFLAGS_ALL = -include $(UNIT)/std.hpp -std=c++20 -Isrc -It -I. -I$(PG_INCLUDE) $(WARNINGS) -Werror -fvisibility=hidden -DROOMS_FAULTS -MMD -MP

unit = mkdir -p build && flock $(1).lock $(SUBMAKE) unit-programs UNIT=$(1) UNIT_FLAGS='$(2)'

.PHONY: unit unit-build unit-programs valgrind coverage
unit: ## the unit tests under ASan and UBSan
	@$(MAKE) --no-print-directory unit-build $(UNIT_ASAN)
	@ROOMS_UNIT_DIR=$(UNIT)-asan prove -q t/00_unit.t

unit-build:
	@$(call unit,$(UNIT),$(UNIT_FLAGS))

valgrind: ## the unit tests under valgrind
	@$(call unit,build/unit-valgrind,-O1 -g)
	@ROOMS_UNIT_DIR=build/unit-valgrind ROOMS_VALGRIND=1 prove -q t/00_unit.t

coverage: ## line coverage of src/core by the unit tests; fails below 95 %
	@$(call unit,build/unit-cov,-O0 -g --coverage)
	@find build/unit-cov -name '*.gcda' -delete
	@ROOMS_UNIT_DIR=build/unit-cov prove -q t/00_unit.t || failed=1; \
	$(PYTHON) t/check/coverage.py build/unit-cov 95; test -z "$${failed-}"

unit-programs: $(UNIT_PROGRAMS)

PURE_OBJECTS = $(PURE:src/%.cpp=$(UNIT)/%.o)

$(UNIT)/std.hpp: FORCE
	@mkdir -p $(@D)
	@$(STD_HPP) >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(UNIT)/std.hpp.gch: $(UNIT)/std.hpp
	@rm -f $@
	@$(CXX) $(filter-out -MMD -MP,$(CXXFLAGS_ALL)) $(UNIT_FLAGS) -x c++-header -o $@ $<

$(UNIT)/%.o: src/%.cpp | $(UNIT)/std.hpp.gch
	@mkdir -p $(@D)
	@echo "  $(CXX) $@"
	@$(CXX) $(CXXFLAGS_ALL) $(UNIT_FLAGS) -c -o $@ $<

# The assembler reads them, unseen by -MMD.
$(UNIT)/store/redis_scripts.o: $(SCRIPTS)

$(UNIT)/%_test.o: t/unit/%_test.cpp | $(UNIT)/std.hpp.gch
	@mkdir -p $(@D)
	@echo "  $(CXX) $@"
	@$(CXX) $(CXXFLAGS_ALL) $(UNIT_FLAGS) -c -o $@ $<

# Made anew when the list of objects changes, so that nothing deleted lives on in it.
$(UNIT)/librooms.a: $(PURE_OBJECTS) $(UNIT)/objects
	@rm -f $@
	@ar rcs $@ $(PURE_OBJECTS)

$(UNIT)/objects: FORCE
	@mkdir -p $(@D)
	@echo $(PURE_OBJECTS) >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(UNIT)/%_test: $(UNIT)/%_test.o $(UNIT)/librooms.a
	@$(CXX) $(UNIT_FLAGS) -o $@ $^ $(UNIT_LIBS)

# Not a unit test: t/80_pg_link.t drives it beside a real server.
$(UNIT)/pg_link: t/pg/link.cpp $(UNIT)/librooms.a | $(UNIT)/std.hpp.gch
	@echo "  $(CXX) $@"
	@$(CXX) $(CXXFLAGS_ALL) -MF $@.d $(UNIT_FLAGS) -o $@ $(filter %.cpp %.a,$^) $(UNIT_LIBS)

# --- fuzzing: the same objects with clang's coverage in them -----------------------------------

SECONDS ?= 60
FUZZ := build/fuzz
FUZZ_TARGETS := $(patsubst t/fuzz/%_fuzz.cpp,%,$(sort $(wildcard t/fuzz/*_fuzz.cpp)))
FUZZ_PROGRAMS = $(FUZZ_TARGETS:%=$(UNIT)/%_fuzz)
FUZZ_LIBS := -ljwt -lcrypto -ljansson -lz -lhiredis -lpq -lpthread

.PHONY: fuzz fuzz-replay fuzz-build fuzz-programs replay-programs
fuzz: fuzz-build oracle-build t/node_modules/.package-lock.json ## each parser for SECONDS; finds go to build/fuzz/corpus
	@for name in $(FUZZ_TARGETS); do \
		echo "fuzz $$name: $(SECONDS) s"; \
		mkdir -p $(FUZZ)/corpus/$$name t/fuzz/corpus/$$name; \
		$(NICE) $(FUZZ)/$${name}_fuzz -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 \
			-verbosity=0 -artifact_prefix=$(FUZZ)/$$name- $(FUZZ)/corpus/$$name t/fuzz/corpus/$$name; \
	done
	@echo "fuzz tokens beside jose and libjwt: $(SECONDS) s"
	@end=$$(($$(date +%s) + $(SECONDS))); \
	while [ $$(date +%s) -lt $$end ]; do \
		$(NICE) $(call token_verdicts,$$(date +%N),20000) >$(FUZZ)/tokens.log || { cat $(FUZZ)/tokens.log; exit 1; }; \
	done

fuzz-replay: ## the corpora in t/fuzz/corpus once
	@mkdir -p build && flock $(UNIT).lock $(SUBMAKE) replay-programs UNIT=$(UNIT) UNIT_FLAGS='$(UNIT_FLAGS)'
	@for name in $(FUZZ_TARGETS); do \
		$(UNIT)/$${name}_replay t/fuzz/corpus/$$name >$(UNIT)/replay.log || { tail -1 $(UNIT)/replay.log; exit 1; }; \
		echo "fuzz-replay $$name: $$(wc -l <$(UNIT)/replay.log) inputs"; \
	done

replay-programs: $(FUZZ_TARGETS:%=$(UNIT)/%_replay)

$(UNIT)/replay.o: t/fuzz/replay.cpp | $(UNIT)/std.hpp.gch
	@mkdir -p $(@D)
	@$(CXX) $(CXXFLAGS_ALL) $(UNIT_FLAGS) -c -o $@ $<

$(UNIT)/%_replay: $(UNIT)/%_fuzz.o $(UNIT)/replay.o $(UNIT)/librooms.a
	@$(CXX) $(UNIT_FLAGS) -o $@ $^ $(FUZZ_LIBS)

fuzz-build:
	@mkdir -p build && flock $(FUZZ).lock $(SUBMAKE) fuzz-programs UNIT=$(FUZZ) CXX=$(CLANGXX) \
		UNIT_FLAGS='-O1 -g $(SANITIZE) -fsanitize=fuzzer-no-link'

fuzz-programs: $(FUZZ_PROGRAMS)

$(UNIT)/%_fuzz.o: t/fuzz/%_fuzz.cpp | $(UNIT)/std.hpp.gch
	@mkdir -p $(@D)
	@echo "  $(CXX) $@"
	@$(CXX) $(CXXFLAGS_ALL) $(UNIT_FLAGS) -c -o $@ $<

$(UNIT)/%_fuzz: $(UNIT)/%_fuzz.o $(UNIT)/librooms.a
	@$(CXX) $(UNIT_FLAGS) -fsanitize=fuzzer -o $@ $^ $(FUZZ_LIBS)

# --- libjwt beside the verifier: what it mints we accept, what it lets through we do not; and both beside jose ----

# $(call token_verdicts,SEED,COUNT)
token_verdicts = $(UNIT)/token_cases $(1) $(2) | node t/oracle/token_verdicts.mjs

.PHONY: oracle oracle-build oracle-programs
oracle: oracle-build t/node_modules/.package-lock.json ## libjwt's and jose's answers compared with the verifier's
	@$(UNIT)/oracle
	@$(call token_verdicts,1,5000)

oracle-build:
	@mkdir -p build && flock $(UNIT).lock $(SUBMAKE) oracle-programs UNIT=$(UNIT) UNIT_FLAGS='$(UNIT_FLAGS)'

oracle-programs: $(UNIT)/oracle $(UNIT)/token_cases
$(UNIT)/oracle $(UNIT)/token_cases: $(UNIT)/%: t/oracle/%.cpp $(UNIT)/librooms.a | $(UNIT)/std.hpp.gch
	@echo "  $(CXX) $@"
	@$(CXX) $(CXXFLAGS_ALL) -MF $@.d $(UNIT_FLAGS) -o $@ $(filter %.cpp %.a,$^) $(FUZZ_LIBS)

# --- crowds of clients, for the load tests --------------------------------------------------------

LOAD := $(patsubst t/load/%.cpp,build/load/%,$(wildcard t/load/*.cpp))

BENCH := build/bench/load build/bench/floor

.PHONY: load-build
load-build: $(LOAD)
build/load/%: t/load/%.cpp
	@mkdir -p $(@D)
	@echo "  g++ $@"
	@g++ -std=c++20 $(WARNINGS) -Werror -O2 -g -o $@ $< -ljansson -lssl -lcrypto -lz

build/bench/%: bench/%.cpp
	@mkdir -p $(@D)
	@echo "  g++ $@"
	@g++ -std=c++20 $(WARNINGS) -Werror -O2 -g -o $@ $< -lssl -lcrypto -lz

# --- the suite ----------------------------------------------------------------------------------

# The longest first, so that nobody waits for one of them at the end.
LONGEST := $(wildcard $(addprefix t/,92_*.t 91_*.t 94_*.t 86_*.t 87_*.t 89_*.t 81_*.t 82_*.t 83_*.t 57_*.t 80_*.t 90_*.t 58_*.t 53_*.t))
T ?= $(LONGEST) $(filter-out $(LONGEST),$(sort $(wildcard t/*.t)))
TEST_JOBS ?= $(shell expr $(JOBS) + 1)
NODE_MODULES := $(addsuffix /node_modules/.package-lock.json,t client client/demo client/test/react-18 bench/node)
ORACLE := $(if $(wildcard t/oracle/oracle.cpp),oracle)
ROOMS_NGINX ?= $(if $(NGX_NAME),$(CURDIR)/$(MODULE)/objs/nginx)
SUITE_ENV = ROOMS_UNIT_DIR=$${ROOMS_UNIT_DIR:-$(UNIT)} $(if $(ROOMS_NGINX),ROOMS_NGINX=$${ROOMS_NGINX:-$(ROOMS_NGINX)})

# $(call suite,MODULE,MODULE WITH FAULT POINTS,TAP DIRECTORY[,TESTS])
suite = mkdir -p $(3) && $(SUITE_ENV) ROOMS_MODULE=$(CURDIR)/$(1)/ngx_http_rooms_module.so \
	ROOMS_MODULE_FAULTS=$(CURDIR)/$(2)/ngx_http_rooms_module.so PERL_TEST_HARNESS_DUMP_TAP=$(3) \
	prove --timer -j$(TEST_JOBS) $(or $(4),$(T))

.PHONY: test prove matrix asan
test: ## everything: unit tests, corpora, the suite, then `make check`
	@rm -rf build/tap
	@$(MAKE) --no-print-directory module
	@# The tests wait more than they compute: the other compiler's warnings meanwhile, for what they leave of the machine.
	@nice -n 19 $(MAKE) --no-print-directory check-warnings JOBS=1 >build/warnings.log 2>&1 & \
		$(MAKE) --no-print-directory prove || failed=1; wait; test -z "$${failed-}"
	@$(MAKE) --no-print-directory fuzz-replay $(ORACLE)
	@$(MAKE) --no-print-directory check

# Redis' own tests once more, where there is valkey.
VALKEY := $(wildcard /usr/bin/valkey-server)
VALKEY_T := $(sort $(wildcard t/5[789]_redis*.t t/7?_*_redis.t))

prove: module module-faults unit-build load-build $(BENCH) $(NODE_MODULES) client demo $(if $(NGX_NAME),nginx) ## the suite, or T="t/a.t t/b.t" of it
	@$(call suite,$(MODULE),$(MODULE)-faults,build/tap)
	@$(if $(VALKEY),$(if $(filter $(VALKEY_T),$(T)),export ROOMS_REDIS_SERVER=$(VALKEY) && $(call suite,$(MODULE),$(MODULE)-faults,build/tap-valkey,$(filter $(VALKEY_T),$(T))),true),true)

# Each with its own nginx, built from that source.
matrix: ## the suite on other nginx: NGINX_SRC="DIR DIR"
	@test -n '$(NGINX_SRC)' || { echo 'make matrix NGINX_SRC="DIR DIR": the sources of nginx to be tested with'; exit 1; }
	@failed=; for source in $(NGINX_SRC); do \
		echo "nginx in $$source"; \
		$(MAKE) --no-print-directory prove NGX_SRC=$$(realpath $$source) || failed="$$failed $$source"; \
	done; test -z "$$failed" || { echo "failed with:$$failed"; exit 1; }

# Sanitised, the tests compute more than they wait: no more of them than there are cores. The bench is as it is.
asan: TEST_JOBS = $(JOBS)
asan: module module-asan load-build $(BENCH) $(NODE_MODULES) client $(if $(NGX_NAME),nginx-asan) ## the corpora and the suite, under ASan and UBSan; with NGX_SRC=DIR nginx too
	@$(MAKE) --no-print-directory unit-build fuzz-replay $(ORACLE) $(UNIT_ASAN)
	@export ROOMS_ASAN=1 ROOMS_UNIT_DIR=$(UNIT)-asan $(if $(NGX_NAME),ROOMS_NGINX=$(CURDIR)/$(MODULE)-asan/objs/nginx) && $(call suite,$(MODULE)-asan,$(MODULE)-asan,build/tap-asan)

# --- the browser's side ----------------------------------------------------------------------------

CLIENT := client/dist/index.js
DEMO := client/demo/dist/index.html
CLIENT_SOURCES := $(wildcard client/src/*.ts) client/tsup.config.ts client/package.json
NPM_CI = npm ci --no-audit --no-fund --ignore-scripts --loglevel=error

.PHONY: client demo
client: $(CLIENT) ## client/dist: what npm gets
demo: $(DEMO) ## client/demo/dist: the page that `make run` shows

%/node_modules/.package-lock.json: %/package-lock.json
	@cd $* && $(NPM_CI)
	@touch $@

$(CLIENT): $(CLIENT_SOURCES) client/node_modules/.package-lock.json
	@cd client && npx tsup --silent

# Needs no more of npm than it shows: the publisher is bundled by the esbuild that comes with Vite.
$(DEMO): $(wildcard client/src/*.ts client/demo/src/* client/demo/server/*.mjs) client/demo/index.html client/demo/vite.config.ts \
		client/demo/node_modules/.package-lock.json
	@cd client/demo && npx vite build --logLevel error && \
		npx esbuild server/backend.mjs --bundle --platform=node --format=esm --packages=external \
			--alias:rooms-client/publisher=../src/publisher.ts --outfile=backend/backend.mjs --log-level=error

# --- what no test sees --------------------------------------------------------------------------

FORMATTED = $(SOURCES) $(HEADERS) $(wildcard t/unit/*.hpp t/unit/*.cpp t/fuzz/*.hpp t/fuzz/*.cpp t/oracle/*.hpp t/oracle/*.cpp t/pg/*.cpp bench/*.cpp)

.PHONY: check check-version check-layers check-conformance check-faults check-docs check-links check-directives check-warnings fmt fmt-check
check: check-layers fmt-check check-docs check-links check-version check-directives check-conformance check-faults check-warnings ## the house rules

check-layers: ## core/ is pure, nobody includes nginx/
	@$(PYTHON) t/check/layers.py

check-conformance: ## every id of docs/conformance.md and docs/security.md ran
	@test -d build/tap || $(MAKE) --no-print-directory prove T="$$($(PYTHON) t/check/conformance.py --tests)" || true
	@$(PYTHON) t/check/conformance.py

check-faults: ## every fault of docs/reliability.md happened
	@$(PYTHON) t/check/faults.py

check-docs: ## docs/ and the source name the same directives, variables, codes and metrics
	@$(PYTHON) t/check/docs.py

check-version: ## VERSION is that of the npm package, of openapi.yaml and asyncapi.yaml, and of the changelog
	@$(PYTHON) t/check/version.py

check-links: ## each link of a page leads to a file, and to a heading of it
	@$(PYTHON) t/check/links.py

check-directives: ## each directive has a test that names it
	@$(PYTHON) t/check/directives.py

# clang's warnings do not depend on optimisation, its speed does.
check-warnings: module ## no warning, with either compiler (nginx's flags make each an error)
	@$(call module,build/module-warnings,-O0 -g0) DIR_CC=$(CLANG) DIR_PCH=
	@echo "warnings: none with $(MODULE_CC), none with $(CLANG)"

fmt: ## format the C++
	@$(CLANG_FORMAT) -i $(FORMATTED)

fmt-check: ## whether `make fmt` would change anything
	@$(CLANG_FORMAT) --dry-run --Werror $(FORMATTED)

# --- by hand ------------------------------------------------------------------------------------

.PHONY: run bench bench-full bench-many faults soak storm clean
faults: module load-build ## every fault on every broker, under load, in 10 minutes; build/faults.json has the figures
	@$(PYTHON) t/faults/run --matrix --results build/faults.json

soak: module module-faults load-build ## faults for an hour (MINUTES), 1,000 deaths, and whether memory grows
	@ROOMS_MODULE_FAULTS=$(CURDIR)/$(MODULE)-faults/ngx_http_rooms_module.so $(PYTHON) t/faults/soak --minutes $(or $(MINUTES),60)

storm: module load-build ## 100,000 sockets end at once and come back
	@$(PYTHON) t/faults/storm.py --sockets 100000 --workers 6

run: module demo ## nginx with the module on 127.0.0.1:8080 (PORT=9000), and a page that shows it
	@client/demo/run

bench: module $(BENCH) ## ours beside the floor, 5 rounds
	@bench/run --quick --rounds 5 --out build/bench/results

bench-full: module $(BENCH) bench/node/node_modules/.package-lock.json ## all servers in all scenarios, into bench/results
	@bench/run

bench-many: module build/bench/load ## one event to 200,000 sockets (SOCKETS=1000000)
	@bench/many $(SOCKETS)

migrate: ## DATABASE='host=… dbname=…' [TO=0003]: brings a database to the newest migration, or to that one
	@migrations/migrate '$(DATABASE)' $(TO)

clean: ## remove build/
	rm -rf build

-include $(wildcard $(UNIT)/*.d $(UNIT)/*/*.d)
.SECONDARY:
