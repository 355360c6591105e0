# syntax=docker/dockerfile:1
# The image of step: one static binary, no shell, no root. Reproducible for a
# given VERSION: no paths, no times, no VCS stamp in the binary.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS TARGETARCH VERSION=dev COMMIT REGISTRY
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd/step cmd/step
COPY internal internal
COPY hack/licenses hack/licenses
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
    -ldflags "-s -w -buildid= -X wfgen.dev/internal/version.version=$VERSION \
    -X wfgen.dev/internal/version.commit=$COMMIT -X wfgen.dev/internal/version.registry=$REGISTRY" -o /step ./cmd/step
RUN go run ./hack/licenses /step > /THIRD-PARTY-LICENSES.txt

FROM scratch
ARG VERSION=dev COMMIT
LABEL org.opencontainers.image.title="step" \
      org.opencontainers.image.description="Measures the latency of LLM servers and estimates what their autoscaler needs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"
# S3 and HTTPS targets need the public certificate authorities
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /step /step
COPY LICENSE /licenses/LICENSE
COPY --from=build /THIRD-PARTY-LICENSES.txt /licenses/THIRD-PARTY-LICENSES.txt
USER 65532:65532
ENTRYPOINT ["/step"]
