# The gateway as a container: small, without a shell in its start-up, for an unprivileged user and a read-only root file system.
#
#   docker build --build-arg NODE_DIGEST=@sha256:<digest> --build-arg VERSION=0.1.0 --tag drupal-mcp-gateway:0.1.0 .
#
# NODE_DIGEST pins the base image: give it in every build that is released. This prints it:
#   docker buildx imagetools inspect node:24-slim --format '@{{.Manifest.Digest}}'
ARG NODE_DIGEST=

# What the program needs to run: production packages, without their types and source maps (nearly half of their size). Licence
# files stay. No install script is run, none is needed; the keychain of `login` (optional) has no use in a container.
FROM node:24-slim${NODE_DIGEST} AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --omit=optional --ignore-scripts
RUN find node_modules -type f \( -name '*.map' -o -name '*.ts' -o -name '*.mts' -o -name '*.cts' \) -delete

# The program, compiled. The compiler stays in this stage.
FROM node:24-slim${NODE_DIGEST} AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc tsconfig.json ./
RUN npm ci --ignore-scripts
COPY src ./src
RUN npm run build -- --sourceMap false --inlineSources false
# A checkout made under umask 077 has files that only their owner may read; COPY keeps that, and the process is not their owner.
COPY LICENSE ./
COPY config ./config
RUN chmod -R a+rX package.json LICENSE config

FROM node:24-slim${NODE_DIGEST} AS gateway
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="drupal-mcp-gateway" \
      org.opencontainers.image.description="The public MCP endpoint of a Drupal site: an authenticating reverse proxy." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
ENV NODE_ENV=production \
    MCP_SERVER_HOST=0.0.0.0
WORKDIR /app
COPY --from=build /app/package.json /app/LICENSE ./
COPY --from=build /app/config ./config
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /app/build/src ./build/src
# By number, so that Kubernetes can tell that it is not root. Files belong to root: the process cannot change its own program.
USER 65532:65532
EXPOSE 3000
STOPSIGNAL SIGTERM
# Port and certificate as the gateway reads them: from the environment, and from the file that GATEWAY_CONFIG or the --config of
# process 1 names.
HEALTHCHECK --interval=10s --timeout=5s --retries=3 \
  CMD ["node", "build/src/cli/health.js"]
# Lists, not strings: node itself is process 1 and SIGTERM reaches it.
ENTRYPOINT ["node", "build/src/cli/main.js"]
CMD ["serve"]
