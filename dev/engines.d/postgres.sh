# shellcheck shell=bash disable=SC2154 # variables of dev/engines
# Postgres: one server with a database `hawser` and a role `hawser` that owns it and may make others.

postgres_password=hawser

postgres_where() { printf '127.0.0.1:%s' "$(get postgres base)"; }

postgres_answers() { "$(get postgres bin)/pg_isready" -q -h 127.0.0.1 -p "$(get postgres base)" -t 2; }

postgres_address() { printf 'postgres://hawser:%s@127.0.0.1:%s/hawser\n' "$postgres_password" "$(get postgres base)"; }

# At once, but in order: clients are told.
postgres_end() { end "$1" INT 20; }

postgres_program() {
  local bin home="$opt_postgres_home"
  if [ -n "$home" ]; then
    if [ ! -x "$home/bin/postgres" ] || [ ! -x "$home/bin/initdb" ]; then die "there is no bin/postgres with its bin/initdb in $home"; fi
    (cd "$home/bin" && pwd)
    return 0
  fi
  bin="$(postgres_newest)"
  if [ -z "$bin" ]; then
    postgres_no_cluster
    install_quietly postgresql postgresql
    bin="$(postgres_newest)"
  fi
  [ -n "$bin" ] || die "there is no Postgres after the package postgresql was installed; take one with --postgres-home DIR"
  printf '%s' "$bin"
}

postgres_newest() { # the newest of Debian's versions, then any that is in the path
  local bin
  bin="$(find /usr/lib/postgresql -path '*/bin/postgres' 2>/dev/null | sort -V | tail -1)"
  [ -n "$bin" ] || bin="$(command -v postgres || true)"
  if [ -n "$bin" ] && [ -x "$(dirname "$bin")/initdb" ]; then dirname "$bin"; fi
}

# Debian's package makes a database cluster of its own, on the port that is wanted here, unless it is told not to.
postgres_no_cluster() {
  local dir=/etc/postgresql-common/createcluster.d
  [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null || return 0
  as_root mkdir -p "$dir"
  printf '# Written by dev/engines of Hawser: it starts a server of its own.\ncreate_main_cluster = false\n' |
    as_root tee "$dir/hawser.conf" >/dev/null
}

# Postgres refuses to run as root.
as_postgres() {
  local user
  if [ "$(id -u)" != 0 ]; then "$@"; return; fi
  user="$(get postgres user)"
  setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups "$@"
}

postgres_prepare() {
  local base bin user=postgres; base="${HAWSER_POSTGRES_PORT:-5432}"
  same_as_before postgres 1 "$base" server
  bin="$(postgres_program)"
  id postgres >/dev/null 2>&1 || user=nobody
  put postgres bin "$bin"; put postgres base "$base"; put postgres nodes 1; put postgres user "$user"
  if [ -n "$opt_tls" ]; then certificates; put postgres tls yes; fi
  mkdir -p "$run/postgres"
  alive postgres && return 0
  postgres_data
  postgres_conf
}

# The data folder belongs to who runs the server, who must be able to reach it: root's own folders are closed to others.
postgres_data() {
  local data="$run/postgres/data" elsewhere
  if [ ! -e "$data/PG_VERSION" ]; then
    rm -rf "$data"
    if [ "$(id -u)" = 0 ] && ! as_postgres test -x "$run/postgres" 2>/dev/null; then
      elsewhere="$(mktemp -d /var/tmp/hawser-postgres.XXXXXX)"
      chown "$(get postgres user)" "$elsewhere"
      ln -s "$elsewhere" "$data"
    else
      mkdir -p "$data"
      if [ "$(id -u)" = 0 ]; then chown "$(get postgres user)" "$data"; fi
    fi
    # The file with the password is read before rights are given up.
    printf '%s\n' "$postgres_password" > "$run/postgres/password"
    (cd / && as_postgres "$(get postgres bin)/initdb" -D "$(readlink -f "$data")" -U postgres --pwfile=/dev/stdin \
      --auth=scram-sha-256 -E UTF8 --locale=C < "$run/postgres/password") > "$run/postgres/initdb.log" 2>&1 || {
      cat "$run/postgres/initdb.log" >&2
      die "the data folder of Postgres cannot be made"
    }
  fi
}

postgres_conf() {
  local data; data="$(readlink -f "$run/postgres/data")"
  cat > "$data/hawser.conf" <<END
listen_addresses = '127.0.0.1'
port = $(get postgres base)
unix_socket_directories = ''
max_connections = 100
shared_buffers = 32MB
max_wal_size = 256MB
log_line_prefix = '%m [%p] '
END
  if [ -n "$(get postgres tls)" ]; then
    cp "$run/tls/server.pem" "$run/tls/server.key" "$data/"
    chmod 600 "$data/server.key"
    printf "ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\n" >> "$data/hawser.conf"
  fi
  if [ "$(id -u)" = 0 ]; then chown "$(get postgres user)" "$data"/server.* "$data/hawser.conf" 2>/dev/null || true; fi
  grep -q "^include 'hawser.conf'" "$data/postgresql.conf" || printf "include 'hawser.conf'\n" >> "$data/postgresql.conf"
}

postgres_start() { # NAME
  local data; data="$(readlink -f "$run/postgres/data")"
  free_port "$(get postgres base)" postgres
  # After kill -9 its lock file stays; a dead process that nobody collected (no init in a container) would seem to hold it.
  [ -z "$(started_at "$(head -1 "$data/postmaster.pid" 2>/dev/null || printf none)")" ] && rm -f "$data/postmaster.pid"
  cd /
  if [ "$(id -u)" = 0 ]; then
    local user; user="$(get postgres user)"
    launch "$1" setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups "$(get postgres bin)/postgres" -D "$data"
  else
    launch "$1" "$(get postgres bin)/postgres" -D "$data"
  fi
}

postgres_psql() { # ROLE DATABASE ARGS..
  local role="$1" database="$2"; shift 2
  PGPASSWORD="$postgres_password" PGCONNECT_TIMEOUT=10 "$(get postgres bin)/psql" -X -h 127.0.0.1 -p "$(get postgres base)" \
    -U "$role" -d "$database" "$@"
}

postgres_wait() { # NAME..
  wait_for "$ready_s" postgres "Postgres accepts connections" postgres_answers
  wait_for "$ready_s" postgres "Postgres answers a query" postgres_psql postgres postgres -Atqc 'SELECT 1'
}

postgres_healthy() {
  postgres_wait
  postgres_psql postgres postgres -Atqc "SELECT 1 FROM pg_roles WHERE rolname = 'hawser'" | grep -q 1 ||
    postgres_psql postgres postgres -qc "CREATE ROLE hawser LOGIN CREATEDB PASSWORD '$postgres_password'"
  postgres_psql postgres postgres -Atqc "SELECT 1 FROM pg_database WHERE datname = 'hawser'" | grep -q 1 ||
    postgres_psql postgres postgres -qc "CREATE DATABASE hawser OWNER hawser"
  wait_for "$ready_s" postgres "Postgres answers a query of hawser" postgres_psql hawser hawser -Atqc 'SELECT 1'
}
