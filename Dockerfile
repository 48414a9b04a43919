FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --locked --release --bin rookery

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home --home-dir /data rookery
COPY --from=build /build/target/release/rookery /usr/local/bin/rookery
# The root file system may be read-only: nothing is written outside of DATA_DIR. There is no Postgres in this image;
# give DATABASE_URL.
ENV DATA_DIR=/data
VOLUME /data
USER 1000:1000
EXPOSE 3000 9090
ENTRYPOINT ["rookery"]
CMD ["serve"]
