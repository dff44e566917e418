# Tandem in an image of its own, static and alone:
#   docker build -t tandem:1.0.0 --build-arg TANDEM_COMMIT="$(git rev-parse --short=12 HEAD)" .
# and what stands beside a node on its host, keepalived:
#   docker build -t tandem-host:1.0.0 --target host .
# docs/containers.md tells how they are run. Both are built by Docker 20.10 and newer, with BuildKit or without.

ARG RUST_IMAGE=rust:1.95.0-slim-bookworm
ARG DEBIAN_IMAGE=debian:bookworm-20260421-slim

# A node's host, where each container has one network and several share it: keepalived, which moves the virtual addresses,
# nftables, and sqlite3 for rows.
FROM ${DEBIAN_IMAGE} AS host
RUN apt-get update \
    && apt-get install -y --no-install-recommends curl iproute2 keepalived nftables sqlite3 \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 65532 -g 65532 /state/a /state/b /var/lib/tandem
COPY config/keepalived/check.sh config/keepalived/fit.sh config/keepalived/notify.sh /etc/keepalived/
COPY config/keepalived/keepalived-a.conf config/keepalived/keepalived-b.conf config/nftables/tandem-vip.nft /usr/share/tandem/
# What docker-compose.yml runs in it.
COPY config/compose/keepalived.sh config/compose/keys.sh config/compose/row.sh /compose/
# A clone's modes are its maker's umask's.
RUN chmod -R go+rX /etc/keepalived /usr/share/tandem /compose
LABEL org.opencontainers.image.title="Tandem's host" \
    org.opencontainers.image.description="keepalived and nftables beside a Tandem node, as Tandem ships them" \
    org.opencontainers.image.version="1.0.0" \
    org.opencontainers.image.licenses="MIT"

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
# The commit, which is not in here, for `tandem --version`.
ARG TANDEM_COMMIT=unknown
# glibc and not musl, which takes some 5 % more processor time for a call. What of glibc can't be static, the system's own way to
# resolve names, is not used.
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
    && TANDEM_COMMIT="$TANDEM_COMMIT" RUSTFLAGS="-C target-feature=+crt-static" \
        cargo build --release --locked --bin tandem --target "$target" \
    && mkdir -p /rootfs/usr/bin /rootfs/etc/tandem /rootfs/etc/ssl/certs /state \
    && strip --strip-debug -o /rootfs/usr/bin/tandem "target/$target/release/tandem" \
    && cp /etc/ssl/certs/ca-certificates.crt /rootfs/etc/ssl/certs/ \
    && sed -e 's#^state_dir = "state"#state_dir = "/var/lib/tandem"#' \
        -e 's#^url = "sqlite:tandem.db"#url = "sqlite:/var/lib/tandem/tandem.db"#' \
        config/tandem.toml >/rootfs/etc/tandem/tandem.toml \
    && echo 'tandem:x:65532:65532::/var/lib/tandem:/usr/bin/tandem' >/rootfs/etc/passwd \
    && echo 'tandem:x:65532:' >/rootfs/etc/group

FROM scratch AS tandem
COPY --from=build /rootfs/ /
COPY --from=build --chown=65532:65532 /state /var/lib/tandem
ARG TANDEM_COMMIT=unknown
LABEL org.opencontainers.image.title="Tandem" \
    org.opencontainers.image.description="A SIP dispatcher for MRCPv2 and other SIP servers" \
    org.opencontainers.image.version="1.0.0" \
    org.opencontainers.image.revision="${TANDEM_COMMIT}" \
    org.opencontainers.image.licenses="MIT"
USER 65532:65532
WORKDIR /var/lib/tandem
EXPOSE 8060/udp 8060/tcp 9060/tcp
# SIGTERM drains: up to 35 s.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=20s --retries=3 \
    CMD ["/usr/bin/tandem", "ready", "--config", "/etc/tandem/tandem.toml"]
ENTRYPOINT ["/usr/bin/tandem"]
CMD ["run", "--config", "/etc/tandem/tandem.toml"]
