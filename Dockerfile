# The image of `spillway`: what `cargo xtask image` puts together, built where Docker builds.
FROM rust:1.91-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends musl-tools
WORKDIR /src
COPY . .
RUN CARGO_TARGET_DIR=/target cargo xtask image --root-only

FROM scratch
COPY --from=build /target/container/root/ /
USER 65532:65532
ENTRYPOINT ["/spillway"]
