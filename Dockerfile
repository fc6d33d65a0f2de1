FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
# With .git, from which the Go toolchain writes the version into the program.
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o /out/fanout ./cmd/fanout
# What the empty image below lacks: a place for the snapshot that its user may write to.
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
