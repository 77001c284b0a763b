# shellcheck shell=bash disable=SC2154 # variables of dev/engines
# Redis: `redis` alone; with --tls also `redis-tls` (TLS and a password); with --cluster also three masters.
# What it holds lasts seconds (presence, typing), so nothing is written to disk and a restart begins empty.

redis_password=hawser

redis_port() { # NAME
  local base; base="$(get redis base)"
  case "$1" in
    redis) printf '%s' "$base" ;;
    redis-tls) printf '%s' $((base + 1)) ;;
    *) printf '%s' $((base + 1 + ${1#redis-})) ;;
  esac
}

redis_bus() { printf '%s' $(($(redis_port "$1") + 3)); }

redis_where() { printf '127.0.0.1:%s' "$(redis_port "$1")"; }

redis_answers() { [ "$(redis_cli "$1" PING 2>/dev/null)" = PONG ]; }

redis_address() { # [WHICH]
  local list="" n
  case "${1:-redis}" in
    redis) printf 'redis://127.0.0.1:%s/\n' "$(redis_port redis)" ;;
    redis-tls) printf 'rediss://:%s@127.0.0.1:%s/\n' "$redis_password" "$(redis_port redis-tls)" ;;
    redis-cluster)
      for n in 1 2 3; do list="$list,redis://127.0.0.1:$(redis_port "redis-$n")/"; done
      say "${list#,}" ;;
  esac
}

redis_end() { end "$1" TERM 5; }

# The Debian package's program, or that of --redis-home.
redis_program() {
  local dir home="$opt_redis_home"
  if [ -n "$home" ]; then
    for dir in "$home" "$home/bin" "$home/src"; do
      if [ -x "$dir/redis-server" ] && [ -x "$dir/redis-cli" ]; then (cd "$dir" && pwd); return 0; fi
    done
    die "there is no redis-server with its redis-cli in $home, $home/bin or $home/src"
  fi
  if ! command -v redis-server >/dev/null || ! command -v redis-cli >/dev/null; then install_quietly redis-server redis-server; fi
  dirname "$(command -v redis-server)"
}

redis_cli() { # NAME ARGS..
  local name="$1" extra=(); shift
  if [ "$name" = redis-tls ]; then
    extra=(--tls --cacert "$run/tls/ca.pem" --no-auth-warning -a "$redis_password")
  fi
  timeout 20 "$(get redis bin)/redis-cli" -h 127.0.0.1 -p "$(redis_port "$name")" "${extra[@]}" "$@"
}

redis_prepare() {
  local base bin name; base="${HAWSER_REDIS_PORT:-6379}"
  same_as_before redis 1 "$base" server
  bin="$(redis_program)"
  put redis bin "$bin"; put redis base "$base"; put redis nodes 1
  mkdir -p "$run/redis"
  if [ -n "$opt_tls" ]; then certificates; mkdir -p "$run/redis-tls"; fi
  if [ -n "$opt_cluster" ]; then mkdir -p "$run/redis-1" "$run/redis-2" "$run/redis-3"; fi
  for name in $(names redis); do redis_conf "$name"; done
}

redis_conf() { # NAME
  local dir="$run/$1"
  cat > "$dir/redis.conf" <<END
bind 127.0.0.1
dir $dir
daemonize no
save ""
appendonly no
maxmemory 256mb
maxmemory-policy noeviction
END
  case "$1" in
    redis) printf 'port %s\n' "$(redis_port "$1")" >> "$dir/redis.conf" ;;
    redis-tls)
      cat >> "$dir/redis.conf" <<END
port 0
tls-port $(redis_port "$1")
tls-cert-file $run/tls/server.pem
tls-key-file $run/tls/server.key
tls-ca-cert-file $run/tls/ca.pem
tls-auth-clients optional
requirepass $redis_password
END
      ;;
    *)
      cat >> "$dir/redis.conf" <<END
port $(redis_port "$1")
cluster-enabled yes
cluster-port $(redis_bus "$1")
cluster-config-file nodes.conf
cluster-node-timeout 3000
END
      ;;
  esac
}

redis_start() { # NAME
  free_port "$(redis_port "$1")" redis
  launch "$1" "$(get redis bin)/redis-server" "$run/$1/redis.conf"
}

redis_wait() { # NAME..
  local name
  for name in "$@"; do wait_for "$ready_s" "$name" "$name answers PING" redis_answers "$name"; done
}

redis_cluster_ok() { redis_cli redis-1 CLUSTER INFO | tr -d '\r' | grep -x 'cluster_state:ok'; }

redis_healthy() {
  # shellcheck disable=SC2046 # a list of names
  redis_wait $(names redis)
  [ -d "$run/redis-1" ] || return 0
  if ! redis_cli redis-1 CLUSTER INFO | grep -q 'cluster_known_nodes:3'; then
    "$(get redis bin)/redis-cli" --cluster create "127.0.0.1:$(redis_port redis-1)" "127.0.0.1:$(redis_port redis-2)" \
      "127.0.0.1:$(redis_port redis-3)" --cluster-yes >> "$run/redis-1/log" 2>&1 || { tail_log redis-1; die "the Redis cluster cannot be made"; }
  fi
  wait_for "$ready_s" "redis-1 redis-2 redis-3" "the Redis cluster is whole" redis_cluster_ok
}
