FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
# Dependencies are built once for each Cargo.lock: what cargo made stays in the builder's caches, a changed source builds
# the workspace alone. The program is copied out, because a cache is no part of any image.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    cargo build --locked --release --bin rookery \
 && install -D target/release/rookery /out/rookery

FROM debian:bookworm-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Rookery" \
      org.opencontainers.image.description="A federated, AT-Protocol-native, end-to-end encrypted delivery and sync server" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin rookery \
 && install -d -o rookery -g rookery -m 0700 /data
COPY --from=build /out/rookery /usr/local/bin/rookery
# The root file system may be read-only: the server writes to DATA_DIR alone (keys that `keygen` makes, ROLLBACK_GUARD if
# it is there), and with DATABASE_URL and KEYS_DIR not even there. There is no Postgres in this image.
ENV DATA_DIR=/data
USER 1000:1000
EXPOSE 3000 9090
# bash is in the base and opens the connection itself: no curl in the image. Kubernetes ignores this and has its probes.
HEALTHCHECK --interval=5s --timeout=6s --start-period=60s --retries=3 \
  CMD ["bash", "-c", "exec 3<>\"/dev/tcp/127.0.0.1/${SERVER_PORT:-3000}\" && printf 'GET /health/ready HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
ENTRYPOINT ["rookery"]
CMD ["serve"]
