FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
# With .git: the Go toolchain takes the version from it.
COPY . .
# Without the demo, nor the Kafka and the Redis that it has inside.
RUN CGO_ENABLED=0 go build -trimpath -tags nodemo -ldflags "-s -w" -o /out/fanout ./cmd/fanout
# The folder for the snapshot, which the user below may write.
RUN mkdir -p /out/state

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/fanout /fanout
COPY --from=build --chown=65532:65532 /out/state /var/lib/fanout
# Where redis.snapshot_file goes by default.
ENV XDG_CACHE_HOME=/var/lib/fanout
USER 65532:65532
EXPOSE 8080
VOLUME /var/lib/fanout
ENTRYPOINT ["/fanout"]
CMD ["run"]
