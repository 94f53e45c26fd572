# One image with every program, and nothing else in it.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --tag REGISTRY/ambit:0.1.0 --push .
#
# The programs are static: one of them, the CNI plugin, is copied to nodes and runs there whatever C library they have. Its
# resolver is in the C library since glibc 2.34, so nothing is loaded at run time; Debian 12 has 2.36.
ARG RUST_VERSION=1.92
FROM --platform=$BUILDPLATFORM rust:${RUST_VERSION}-bookworm AS build
ARG BUILDARCH
ARG TARGETARCH
WORKDIR /ambit
COPY . .
RUN set -eu; \
    case "$TARGETARCH" in \
        amd64) machine=x86_64 ;; \
        arm64) machine=aarch64 ;; \
        *) echo "no build for $TARGETARCH" >&2; exit 1 ;; \
    esac; \
    target="$machine-unknown-linux-gnu"; \
    rustup target add "$target"; \
    if [ "$TARGETARCH" != "$BUILDARCH" ]; then \
        compiler="gcc-$(echo "$machine" | tr _ -)-linux-gnu"; \
        apt-get update; \
        apt-get install --yes --no-install-recommends "$compiler" "libc6-dev-$TARGETARCH-cross"; \
        name=$(echo "$target" | tr a-z- A-Z_); \
        export "CARGO_TARGET_${name}_LINKER=$machine-linux-gnu-gcc"; \
        export "CC_$(echo "$target" | tr - _)=$machine-linux-gnu-gcc"; \
    fi; \
    tests/static "$target"; \
    mkdir /image; \
    for program in ztunnel waypoint ambit ambit-cni; do \
        cp "target/static/$target/dist/$program" /image/; \
    done

FROM scratch
LABEL org.opencontainers.image.title="ambit" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/ztunnel /ztunnel
COPY --from=build /image/waypoint /waypoint
COPY --from=build /image/ambit /ambit
COPY --from=build /image/ambit-cni /ambit-cni
ENTRYPOINT ["/ambit"]
