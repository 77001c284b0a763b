# shellcheck shell=bash disable=SC2154 # variables of dev/engines
# Apache Cassandra: node n listens on 127.0.0.n, all with the same ports.

cassandra_port() { get cassandra base; }
cassandra_host() { printf '127.0.0.%s' "${1#cassandra-}"; }
cassandra_jmx() { printf '%s' $(($(cassandra_port) + 10 + ${1#cassandra-})); }

cassandra_where() {
  printf '%s:%s, nodes %s, JMX %s' "$(cassandra_host "$1")" "$(cassandra_port)" $(($(cassandra_port) + 1)) "$(cassandra_jmx "$1")"
}

cassandra_answers() { answers "$(cassandra_port)" "$(cassandra_host "$1")"; }

cassandra_address() {
  local list="" name
  for name in $(names cassandra); do list="$list,$(cassandra_host "$name"):$(cassandra_port)"; done
  say "${list#,}"
}

# A node that is told to leave flushes its tables first.
cassandra_end() { end "$1" TERM 30; }

cassandra_prepare() {
  local nodes base lib n name home="$opt_cassandra_home"
  nodes="${opt_nodes:-$(get cassandra nodes 1)}"; base="${HAWSER_CASSANDRA_PORT:-9042}"
  same_as_before cassandra "$nodes" "$base" node
  java_17 >/dev/null
  if [ -n "$home" ]; then
    ls "$home"/lib/*cassandra*-5*.jar >/dev/null 2>&1 || die "$home is not an unpacked Apache Cassandra 5: no lib/apache-cassandra-5*.jar in it"
    lib="$(cd "$home/lib" && pwd -P)"
  else
    lib="$(artifacts cassandra 70)"
  fi
  put cassandra lib "$lib"; put cassandra nodes "$nodes"; put cassandra base "$base"
  if [ -n "$opt_auth" ]; then put cassandra auth yes; fi
  if [ -n "$opt_tls" ]; then certificates; put cassandra tls yes; fi
  cassandra_compile
  for n in $(seq "$nodes"); do mkdir -p "$run/cassandra-$n"; done
  for name in $(names cassandra); do alive "$name" || cassandra_yaml "$name" "$nodes"; done
}

# Tokens are given, not drawn: nodes can start at the same time, and each has an equal share.
cassandra_tokens() { # N NODES
  local i list=""
  for i in 0 1 2 3; do
    list="$list,$((-9223372036854775807 + (i * $2 + $1 - 1) * (9223372036854775807 / (2 * $2) ) ))"
  done
  printf '%s' "${list#,}"
}

cassandra_yaml() { # NAME NODES
  local seeds="" i dir="$run/$1" commitlog
  # A process that is killed loses what it wrote since the last mark in its commit log, up to 100 ms of acknowledged rows:
  # the other copies have them. Where there is none, a row is on disk before it is acknowledged.
  commitlog=$'commitlog_sync: periodic\ncommitlog_sync_period: 10s'
  if [ "$2" = 1 ]; then commitlog=$'commitlog_sync: group\ncommitlog_sync_group_window: 2ms'; fi
  for i in $(seq "$2"); do seeds="$seeds,127.0.0.$i:$(($(cassandra_port) + 1))"; done
  cat > "$dir/cassandra.yaml" <<END
cluster_name: hawser-dev-engines
num_tokens: 4
initial_token: "$(cassandra_tokens "${1#cassandra-}" "$2")"
auto_bootstrap: false
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{ seeds: "${seeds#,}" }]
endpoint_snitch: SimpleSnitch
listen_address: $(cassandra_host "$1")
rpc_address: $(cassandra_host "$1")
storage_port: $(($(cassandra_port) + 1))
native_transport_port: $(cassandra_port)
data_file_directories: [$dir/data]
commitlog_directory: $dir/commitlog
hints_directory: $dir/hints
saved_caches_directory: $dir/saved_caches
cdc_raw_directory: $dir/cdc_raw
$commitlog
disk_failure_policy: stop
commit_failure_policy: stop
# A dropped or truncated table of a test leaves no snapshot behind.
auto_snapshot: false
# Small machine: few threads, small buffers.
concurrent_reads: 16
concurrent_writes: $((($2 > 1) ? 16 : 128))
concurrent_compactors: 1
memtable_heap_space: 64MiB
memtable_offheap_space: 64MiB
commitlog_segment_size: 16MiB
commitlog_total_space: 256MiB
file_cache_size: 32MiB
networking_cache_size: 32MiB
key_cache_size: 8MiB
native_transport_max_threads: $((($2 > 1) ? 32 : 128))
END
  if [ -n "$(get cassandra auth)" ]; then
    # The roles are cached for a second only: a password that was changed is a password that was changed.
    cat >> "$dir/cassandra.yaml" <<END
authenticator: PasswordAuthenticator
authorizer: CassandraAuthorizer
roles_validity: 1s
credentials_validity: 1s
END
  fi
  if [ -n "$(get cassandra tls)" ]; then
    cat >> "$dir/cassandra.yaml" <<END
client_encryption_options:
  enabled: true
  optional: true
  keystore: $run/tls/server.p12
  keystore_password: hawser
  store_type: PKCS12
END
  fi
}

cassandra_start() { # NAME
  local name="$1" lib heap="${HAWSER_CASSANDRA_HEAP:-512m}" major settle=()
  lib="$(get cassandra lib)"; major="$(java_17)"
  free_port "$(cassandra_port)" cassandra "$(cassandra_host "$name")"
  free_port "$(($(cassandra_port) + 1))" cassandra "$(cassandra_host "$name")"
  free_port "$(cassandra_jmx "$name")" cassandra
  # Nobody to wait for on a single node; three hear from each other first, but sooner than in a data center.
  if [ "$(get cassandra nodes)" = 1 ]; then
    settle=(-Dcassandra.skip_wait_for_gossip_to_settle=0 -Dcassandra.ring_delay_ms=100)
  else
    settle=(-Dcassandra.gossip_settle_min_wait_ms=2000 -Dcassandra.gossip_settle_interval_ms=500 -Dcassandra.ring_delay_ms=5000)
  fi
  if [ "$major" -ge 18 ]; then settle+=(-Djava.security.manager=allow); fi
  # shellcheck disable=SC2086 # options, or none
  launch "$name" java "-Xms$heap" "-Xmx$heap" -Xss512k -XX:+UseSerialGC -XX:MaxDirectMemorySize=256m ${HAWSER_ENGINES_JAVA:-} \
    -XX:+ParallelRefProcEnabled -XX:+PerfDisableSharedMem -XX:+ExitOnOutOfMemoryError -Djava.net.preferIPv4Stack=true \
    "@$here/cassandra/jvm17.options" "-javaagent:$(find -L "$lib" -name 'jamm-*.jar' | head -1)" \
    "-Dlogback.configurationFile=file://$here/cassandra/logback.xml" "-Dcassandra.config=file://$run/$name/cassandra.yaml" \
    "-Dcassandra.storagedir=$run/$name" "-Dcassandra.logdir=$run/$name" -Dcassandra-foreground=yes \
    "-Dcassandra.jmx.local.port=$(cassandra_jmx "$name")" -Dcassandra.superuser_setup_delay_ms=0 "${settle[@]}" \
    -cp "$lib/*" org.apache.cassandra.service.CassandraDaemon
}

# A client for CQL is Java too, so that it needs nothing new; ecj, which Cassandra brings for its functions, compiles it.
cassandra_compile() {
  local lib out ecj; lib="$(get cassandra lib)"
  out="$cache/cql-$(printf '%s' "$lib" | cat - "$here/cassandra/Cql.java" | sha256sum | cut -c1-12)"
  if [ ! -f "$out/Cql.class" ]; then
    ecj="$(find -L "$lib" -name 'ecj-*.jar' | head -1)"
    mkdir -p "$out"
    # shellcheck disable=SC2015 # no class, for whatever reason, is a failure
    java -cp "$ecj" org.eclipse.jdt.internal.compiler.batch.Main -17 -proc:none -nowarn \
      -cp "$(printf '%s:' "$lib"/cassandra-driver-core-*.jar "$lib"/guava-*.jar)" -d "$out" "$here/cassandra/Cql.java" 2>&1 |
      head -20 >&2 && [ -f "$out/Cql.class" ] || die "$here/cassandra/Cql.java does not compile against $lib"
  fi
  put cassandra cql "$out"
}

cassandra_java() { # CLASS ARGS..
  java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "@$here/cassandra/jvm17.options" "-Duser.home=$run/.cassandra" \
    "-Dlogback.configurationFile=file://$here/cassandra/logback-tools.xml" -Djava.net.preferIPv4Stack=true \
    -cp "$(get cassandra cql):$(get cassandra lib)/*" "$@"
}

cassandra_cql() { # ADDRESSES ARGS..
  local at="$1" user=""; shift
  if [ -n "$(get cassandra auth)" ]; then user=cassandra; fi
  cassandra_java Cql "$at" "$user" "$user" "$@"
}

# Ready: a query is answered. A node that has just come back knows its peers from before.
cassandra_wait() { # NAME..
  local name
  for name in "$@"; do
    wait_for "$ready_s" "$name" "$name listens" cassandra_answers "$name"
    wait_for "$ready_s" "$name" "$name answers a query" \
      cassandra_cql "$(cassandra_host "$name"):$(cassandra_port)" "SELECT release_version FROM system.local"
  done
}

# Healthy: every node answers a query and sees the others.
cassandra_healthy() {
  local name all; all="$(names cassandra)"
  for name in $all; do wait_for "$ready_s" "$all" "$name listens" cassandra_answers "$name"; done
  wait_for "$ready_s" "$all" "every node of Cassandra answers a query" \
    cassandra_cql "$(cassandra_address)" --wait "$(get cassandra nodes)" 20
  # A login must not depend on one node.
  if [ -n "$(get cassandra auth)" ] && [ "$(get cassandra nodes)" = 3 ]; then
    cassandra_cql "$(cassandra_address)" "ALTER KEYSPACE system_auth WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}"
    for name in $all; do cassandra_nodetool "$name" repair -full system_auth >> "$run/$name/log" 2>&1; done
  fi
}

cassandra_nodetool() { # [NAME] ARGS..
  local name=cassandra-1
  case "${1:-}" in cassandra-*) name="$1"; shift ;; esac
  cassandra_java org.apache.cassandra.tools.NodeTool -h 127.0.0.1 -p "$(cassandra_jmx "$name")" "$@"
}
