# make          build
# make demo     seal an image and see it mounted, and refused, in a VM
# make test     everything that is tested
# make check    formatting, lints, shell scripts, dependencies, whether it compiles for arm64
# make same-tree  SEEDS=5000 layer sets, as podman shows them and as layerseal does
# make fuzz     every fuzz target for a minute
# make bench    what things cost, beside others: 80 minutes, writes docs/benchmarks.md
# make bench-quick  a part of it in ten minutes, with ratios beside those of the page
# make image    the image that puts layerseal on nodes of Kubernetes (IMAGE)
# make install  binary, man pages, completions, systemd units, OCI hooks (DESTDIR, PREFIX); uninstall
# make deb      a package for Debian, in target/package; make rpm: for Fedora and others
# make packages-test  both, installed, upgraded, removed and purged in roots of Debian 12, 13 and forky

SHELL = /bin/sh
PREFIX ?= /usr
CARGO ?= cargo
# What is installed.
BINARY ?= target/release/layerseal
FUZZ_SECONDS ?= 60

.PHONY: all build release demo test test-unit test-vm check same-tree fuzz bench bench-quick docs image install install-hooks uninstall packages clean deb rpm packages-test packaging-tools

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
	@rm -rf target/skipped
	$(CARGO) test --locked
	@cat target/skipped/* 2>/dev/null || true

test-vm: packages
	@sh tests/vm/packages.sh vm
	@sh tests/vm/suite.sh

# Every file that a shell reads, those without a name for it among them.
SHELL_SCRIPTS = $$(find . \( -name target -o -name .git \) -prune -o -type f \
    \( -name '*.sh' -o -path './.ci/*' -o -path './tests/vm/guest/*' ! -name '*.rs' \) -print)

check: packages
	@sh tests/vm/packages.sh check
	shellcheck --external-sources --shell=sh $(SHELL_SCRIPTS)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --test vm -- -D warnings
	sh tests/arm64.sh check
	@# As the dependencies were checked before: they are not checked twice.
	CARGO_PROFILE_DEV_DEBUG=line-tables-only \
	    $(CARGO) check --quiet --locked --manifest-path fuzz/Cargo.toml --target-dir target
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items
	@# It runs for a second or two: without optimisation it is built several times as fast, and that is what counts.
	@command -v cargo-deny >/dev/null || CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --debug --locked --quiet cargo-deny
	$(CARGO) deny --log-level error check licenses bans sources

fuzz: packages
	@sh tests/vm/packages.sh fuzz
	@sh fuzz/run.sh $(FUZZ_SECONDS)

SEEDS ?= 3000
same-tree: packages
	SAME_TREE_SEEDS=$(SEEDS) $(CARGO) test --locked --test same_tree -- --nocapture

bench: packages
	@sh benches/run.sh

bench-quick: packages
	@sh benches/run.sh quick

docs:
	$(CARGO) xtask docs

# Needs podman or buildah, and busybox-static; asks no registry.
IMAGE ?= localhost/layerseal-installer:latest
image: release
	@sh contrib/kubernetes/image.sh $(dir $(BINARY)) $(IMAGE)

# What is installed names the program and its hooks where they are.
INSTALLED = sed -e 's|/usr/bin/layerseal|$(PREFIX)/bin/layerseal|g' -e 's|/usr/share/layerseal|$(PREFIX)/share/layerseal|g'

# Debian's zsh looks elsewhere for what is not installed by hand.
ZSH_COMPLETIONS ?= $(PREFIX)/share/zsh/$(if $(and $(filter /usr,$(PREFIX)),$(wildcard /etc/debian_version)),vendor-completions,site-functions)

install: release
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/layerseal
	install -D -m 0755 $(dir $(BINARY))layerseal-runtime $(DESTDIR)$(PREFIX)/bin/layerseal-runtime
	install -D -m 0644 contrib/runtime.toml $(DESTDIR)/usr/lib/layerseal/runtime.toml
	@umask 022; for page in contrib/man/*; do \
	    section=$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}; \
	    install -d $$section && $(INSTALLED) $$page >$$section/$${page##*/} || exit; \
	done
	install -D -m 0644 contrib/completions/layerseal.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/layerseal
	install -D -m 0644 contrib/completions/layerseal.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/layerseal.fish
	install -D -m 0644 contrib/completions/_layerseal $(DESTDIR)$(ZSH_COMPLETIONS)/_layerseal
	install -D -m 0644 contrib/tmpfiles.d/layerseal.conf $(DESTDIR)/usr/lib/tmpfiles.d/layerseal.conf
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/share/doc/layerseal
	@umask 022; for file in contrib/systemd/*; do \
	    $(INSTALLED) $$file >$(DESTDIR)$(PREFIX)/lib/systemd/system/$${file##*/} || exit; \
	done
	@umask 022; for file in contrib/policy.toml contrib/storage.conf contrib/selinux/layerseal.cil README.md CHANGELOG.md SECURITY.md CONTRIBUTING.md \
	    hooks/podman/runtime.conf:podman-runtime.conf contrib/crio/10-layerseal-runtime.conf:crio-runtime.conf; do \
	    name=$${file##*/} && $(INSTALLED) $${file%:*} >$(DESTDIR)$(PREFIX)/share/doc/layerseal/$${name#*:} || exit; \
	done
	install -d $(DESTDIR)$(PREFIX)/share/doc/layerseal/docs $(DESTDIR)$(PREFIX)/share/doc/layerseal/hooks
	@umask 022; for file in docs/*.md docs/picture.svg hooks/README.md; do \
	    $(INSTALLED) $$file >$(DESTDIR)$(PREFIX)/share/doc/layerseal/$$file || exit; \
	done
	$(MAKE) --no-print-directory install-hooks

# Each hook goes where only its runtime reads it, and its configuration names that directory. Containers of
# podman and CRI-O are checked from then on.
HOOKS = $(PREFIX)/share/layerseal/hooks
install-hooks:
	@umask 022; for hook in podman/layerseal-precreate podman/layerseal-createRuntime crio/layerseal-createRuntime; do \
	    install -d "$(DESTDIR)$(HOOKS)/$${hook%/*}" && \
	    $(INSTALLED) "hooks/$$hook.json" >"$(DESTDIR)$(HOOKS)/$$hook.json" || exit; \
	done
	@umask 022; for file in podman/containers.conf:containers/containers.conf.d crio/crio.conf:crio/crio.conf.d; do \
	    install -d "$(DESTDIR)/etc/$${file#*:}" && \
	    $(INSTALLED) "hooks/$${file%:*}" >"$(DESTDIR)/etc/$${file#*:}/50-layerseal.conf" || exit; \
	done
	@[ -n "$(DESTDIR)" ] || [ -e /etc/layerseal/policy.toml ] || \
	    echo 'layerseal: no container starts before there is a policy: see $(PREFIX)/share/doc/layerseal/policy.toml'

uninstall:
	rm -f $(DESTDIR)/etc/containers/containers.conf.d/50-layerseal.conf $(DESTDIR)/etc/crio/crio.conf.d/50-layerseal.conf
	rm -rf $(DESTDIR)$(PREFIX)/share/layerseal $(DESTDIR)$(PREFIX)/share/doc/layerseal
	rm -f $(DESTDIR)$(PREFIX)/bin/layerseal-runtime $(DESTDIR)/usr/lib/layerseal/runtime.toml \
	    $(DESTDIR)/usr/lib/tmpfiles.d/layerseal.conf
	rm -f $(DESTDIR)$(PREFIX)/bin/layerseal $(DESTDIR)$(PREFIX)/share/man/man1/layerseal*.1 \
	    $(DESTDIR)$(PREFIX)/share/man/man5/layerseal-*.5 $(DESTDIR)$(PREFIX)/share/man/man7/layerseal-*.7 \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions/layerseal \
	    $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/layerseal.fish $(DESTDIR)$(ZSH_COMPLETIONS)/_layerseal
	rm -f $(DESTDIR)$(PREFIX)/lib/systemd/system/layerseal-prepare.path $(DESTDIR)$(PREFIX)/lib/systemd/system/layerseal-prepare.service \
	    $(DESTDIR)$(PREFIX)/lib/systemd/system/layerseal-gc.timer $(DESTDIR)$(PREFIX)/lib/systemd/system/layerseal-gc.service \
	    $(DESTDIR)$(PREFIX)/lib/systemd/system/layerseal.socket $(DESTDIR)$(PREFIX)/lib/systemd/system/layerseal.service

# What makes packages, in these versions; without optimisation it is built in half the time.
PACKAGING = target/tools/packaging
$(PACKAGING)/bin/cargo-deb:
	CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --debug --locked --quiet --root $(PACKAGING) --version =3.8.0 cargo-deb
$(PACKAGING)/bin/cargo-generate-rpm:
	CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --debug --locked --quiet --root $(PACKAGING) --version =0.21.1 cargo-generate-rpm

# liblzma without optimisation takes a minute; the system's program has it.
DEB_OPTIONS ?= --compress-system

packaging-tools: $(PACKAGING)/bin/cargo-deb $(PACKAGING)/bin/cargo-generate-rpm

# What is installed, for both; Cargo.toml says what of it goes where.
.PHONY: package-root
package-root: release
	rm -rf target/package/root
	@$(MAKE) --no-print-directory -o release install DESTDIR=target/package/root PREFIX=/usr \
	    ZSH_COMPLETIONS=/usr/share/zsh/completions BINARY=$(BINARY) >/dev/null

deb: package-root $(PACKAGING)/bin/cargo-deb
	PATH="$(CURDIR)/$(PACKAGING)/bin:$$PATH" $(CARGO) deb --quiet --no-build --no-strip --locked $(DEB_OPTIONS) --output target/package/

rpm: package-root $(PACKAGING)/bin/cargo-generate-rpm
	PATH="$(CURDIR)/$(PACKAGING)/bin:$$PATH" $(CARGO) generate-rpm $(RPM_OPTIONS) --output target/package/
	@ls target/package/*.rpm

packages-test: release
	@sh tests/vm/packages.sh vm
	@sh tests/vm/packages.sh rpm
	@sh tests/packages/run.sh bookworm trixie forky

clean:
	$(CARGO) clean
