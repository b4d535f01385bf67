FROM rust:1.95-bookworm AS build
# zlib-ng, which Pingora brings, is built by cmake; the C compiler is in the image.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src

# The dependencies in a layer of their own: an empty crate with our lock file. It is built anew when that changes. Benches
# and tests are not built, but Cargo refuses a manifest that names a file which is not there: an empty one stands for each.
COPY Cargo.toml Cargo.lock ./
RUN for file in $(sed -n 's/^path = "\(.*\.rs\)"$/\1/p' Cargo.toml); do \
      mkdir -p "$(dirname "$file")" && touch "$file"; \
    done \
 && echo '//! Empty.' >src/lib.rs \
 && printf '//! Empty.\nfn main() {}\n' >src/main.rs
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    cargo build --release --locked

COPY src src
# COPY keeps the files' times, which may lie before the empty crate's build; cargo goes by them.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    find src -name '*.rs' -exec touch {} + \
 && cargo build --release --locked --bin sluice

FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=dev
LABEL org.opencontainers.image.title="sluice" \
      org.opencontainers.image.description="A gateway in front of GPU nodes that run vLLM" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build --chmod=755 /src/target/release/sluice /sluice
# The config folder is /config: mount it as a directory, so that a file replaced by rename is seen.
WORKDIR /
USER 65532:65532
ENV HOST=0.0.0.0
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/sluice", "healthcheck"]
ENTRYPOINT ["/sluice"]
