# A long-term support release of Node. Not 24: from 24.19 on it aborts in the garbage collector when the driver of SQLite
# (better-sqlite3 12) was compiled against it (https://github.com/nodejs/node/issues/65446).
ARG NODE_MAJOR=26

FROM node:${NODE_MAJOR}-bookworm-slim AS base
WORKDIR /app
COPY package.json package-lock.json ./

# What runs: the production dependencies. SQLite's driver is compiled here if no binary fits.
FROM base AS dependencies
RUN apt-get update \
  && apt-get install -y --no-install-recommends g++ make python3 \
  && rm -rf /var/lib/apt/lists/*
RUN npm ci --omit=dev

# What is built: the compiler needs no package's install script.
FROM base AS build
RUN npm ci --ignore-scripts
COPY build.mjs tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build

FROM node:${NODE_MAJOR}-bookworm-slim
LABEL org.opencontainers.image.title="Sekali" org.opencontainers.image.licenses="MIT"
ENV NODE_ENV=production \
  SEKALI_HOST=0.0.0.0 \
  SEKALI_PORT=8080 \
  SEKALI_DATABASE=file:/data/sekali.db
WORKDIR /app
COPY package.json LICENSE ./
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
RUN mkdir /data /backups && chown node:node /data /backups
USER node
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.SEKALI_PORT}/health/ready`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
# Without a shell in between, SIGTERM reaches the service, which drains, commits and ends with 0.
CMD ["node", "dist/main.js", "serve"]
