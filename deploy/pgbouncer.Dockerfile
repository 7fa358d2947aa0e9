# PgBouncer as Debian has it, for compose.yaml.

FROM debian:bookworm-slim
# The release of Debian decides the version, so that the image has its security updates.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends pgbouncer \
    && rm -rf /var/lib/apt/lists/*
# hadolint ignore=DL3066
USER postgres
EXPOSE 6432
# The file of passwords is written at each start: it cannot be part of the image.
CMD ["sh", "-c", "printf '\"microblog\" \"%s\"\\n' \"$POSTGRES_PASSWORD\" > /tmp/userlist.txt && exec pgbouncer /etc/pgbouncer/pgbouncer.ini"]
