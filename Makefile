# make          build
# make demo     seal an image and see it mounted, and refused, in a VM
# make test     everything that is tested
# make check    formatting, lints, dependencies
# make fuzz     every fuzz target for a minute
# make bench    what things cost, beside others
# make install  binary, man pages, completions, systemd units (DESTDIR, PREFIX)

SHELL = /bin/sh
PREFIX ?= /usr
CARGO ?= cargo
FUZZ_SECONDS ?= 60

.PHONY: all build release demo test test-unit test-vm check fuzz bench docs install packages clean

all: release

packages:
	@sh tests/vm/packages.sh build

release: packages
	$(CARGO) build --release --locked

demo: packages
	@sh tests/demo/run.sh

test: packages
	@sh tests/run.sh

# One half of the tests, for people in a hurry.
test-unit: packages
	$(CARGO) test --locked

test-vm: packages
	@sh tests/vm/packages.sh vm
	@sh tests/vm/suite.sh

check: packages
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked --quiet cargo-deny
	$(CARGO) deny --log-level error check licenses bans sources

fuzz: packages
	@sh tests/vm/packages.sh fuzz
	@sh fuzz/run.sh $(FUZZ_SECONDS)

bench: packages
	$(CARGO) bench --locked
	@sh benches/start.sh

docs:
	$(CARGO) run -q --locked --example docs -- contrib

install: release
	install -D -m 0755 target/release/layerseal $(DESTDIR)$(PREFIX)/bin/layerseal
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	install -m 0644 contrib/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 0644 contrib/completions/layerseal.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/layerseal
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system contrib/systemd/layerseal-prepare.path contrib/systemd/layerseal-prepare.service \
	    contrib/systemd/layerseal-gc.timer contrib/systemd/layerseal-gc.service
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/doc/layerseal contrib/policy.toml contrib/storage.conf README.md

clean:
	$(CARGO) clean
