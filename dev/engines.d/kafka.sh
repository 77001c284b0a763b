# shellcheck shell=bash disable=SC2154 # variables of dev/engines
# Apache Kafka in KRaft mode: each broker is also a controller.

kafka_java() { # LIB CLASS ARGS..
  local lib="$1"; shift
  java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$lib/*" "$@"
}

kafka_port() { printf '%s' $(($(get kafka base) + 10 * (${1#kafka-} - 1))); }

kafka_where() { printf '127.0.0.1:%s, controller %s' "$(kafka_port "$1")" $(($(kafka_port "$1") + 1)); }

kafka_answers() { answers "$(kafka_port "$1")"; }

kafka_address() { # [tls]
  local list="" name above=0
  if [ "${1:-}" = tls ]; then above=2; fi
  for name in $(names kafka); do list="$list,127.0.0.1:$(($(kafka_port "$name") + above))"; done
  say "${list#,}"
}

kafka_end() { end "$1" TERM 10; }

kafka_prepare() {
  local brokers base lib n name home="$opt_kafka_home"
  brokers="${opt_brokers:-$(get kafka nodes 1)}"; base="${HAWSER_KAFKA_PORT:-9092}"
  same_as_before kafka "$brokers" "$base" broker
  java_17 >/dev/null
  if [ -n "$home" ]; then
    ls "$home"/libs/kafka_*.jar >/dev/null 2>&1 || die "$home is not an unpacked Apache Kafka: no libs/kafka_*.jar in it"
    lib="$(cd "$home/libs" && pwd -P)"
  else
    lib="$(artifacts kafka 50)"
  fi
  if [ -n "$opt_tls" ]; then certificates; put kafka tls yes; fi
  put kafka lib "$lib"; put kafka nodes "$brokers"; put kafka base "$base"
  [ -n "$(get kafka cluster)" ] || put kafka cluster "$(kafka_java "$lib" kafka.tools.StorageTool random-uuid)"
  for n in $(seq "$brokers"); do mkdir -p "$run/kafka-$n"; done
  for name in $(names kafka); do
    alive "$name" && continue
    kafka_properties "$name" "$brokers"
    [ -f "$run/$name/data/meta.properties" ] ||
      kafka_java "$lib" kafka.tools.StorageTool format -t "$(get kafka cluster)" -c "$run/$name/server.properties" \
        > "$run/$name/format.log" 2>&1 || { cat "$run/$name/format.log" >&2; die "$name's data folder cannot be formatted"; }
  done
}

kafka_properties() { # NAME BROKERS
  local n="${1#kafka-}" base voters="" i port tls=""
  base="$(get kafka base)"; port="$(kafka_port "$1")"
  for i in $(seq "$2"); do voters="$voters,$i@127.0.0.1:$((base + 10 * (i - 1) + 1))"; done
  if [ -n "$(get kafka tls)" ]; then tls=",TLS://127.0.0.1:$((port + 2))"; fi
  cat > "$run/$1/server.properties" <<END
process.roles=broker,controller
node.id=$n
controller.quorum.voters=${voters#,}
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))$tls
advertised.listeners=PLAINTEXT://127.0.0.1:$port$tls
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,TLS:SSL
log.dirs=$run/$1/data
# As a careful operator has it: topics are made by who knows their settings, never by accident.
auto.create.topics.enable=false
unclean.leader.election.enable=false
default.replication.factor=$2
min.insync.replicas=$(($2 > 1 ? 2 : 1))
offsets.topic.replication.factor=$2
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$2
transaction.state.log.min.isr=$(($2 > 1 ? 2 : 1))
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$2
share.coordinator.state.topic.min.isr=$(($2 > 1 ? 2 : 1))
group.initial.rebalance.delay.ms=0
# Small machine: few threads, small buffers, a dead broker noticed soon.
num.network.threads=2
num.io.threads=4
num.replica.fetchers=1
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
replica.lag.time.max.ms=5000
log.cleaner.dedupe.buffer.size=16777216
END
  if [ -n "$tls" ]; then
    cat >> "$run/$1/server.properties" <<END
listener.name.tls.ssl.keystore.type=PKCS12
listener.name.tls.ssl.keystore.location=$run/tls/server.p12
listener.name.tls.ssl.keystore.password=hawser
END
  fi
}

kafka_start() { # NAME
  local name="$1" port heap="${HAWSER_KAFKA_HEAP:-512m}"
  port="$(kafka_port "$name")"
  free_port "$port" kafka
  free_port $((port + 1)) kafka
  # shellcheck disable=SC2086 # options, or none
  launch "$name" java "-Xms$heap" "-Xmx$heap" -XX:+UseSerialGC -XX:NewRatio=1 ${HAWSER_ENGINES_JAVA:-} \
    -Djava.awt.headless=true -Dorg.slf4j.simpleLogger.showDateTime=true "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS" \
    -cp "$(get kafka lib)/*" kafka.Kafka "$run/$name/server.properties"
}

# Ready, after `start NAME..`: its port answers. Without a majority of the controllers none does.
kafka_wait() { # NAME..
  local name up=0
  for name in $(names kafka); do if alive "$name"; then up=$((up + 1)); fi; done
  if [ $((up * 2)) -le "$(get kafka nodes)" ]; then
    say "started; without a majority of the brokers none answers yet"
    return 0
  fi
  for name in "$@"; do wait_for "$ready_s" "$name" "$name answers" kafka_answers "$name"; done
}

# Healthy: a topic on all brokers can be made and takes a record with acks=all.
kafka_healthy() {
  local name
  for name in $(names kafka); do wait_for "$ready_s" "$name" "$name answers" kafka_answers "$name"; done
  wait_for "$ready_s" "$(names kafka)" "Kafka takes a record with acks=all" kafka_takes_a_record
}

kafka_takes_a_record() {
  local lib at said
  lib="$(get kafka lib)"; at="$(kafka_address)"
  kafka_java "$lib" org.apache.kafka.tools.TopicCommand --bootstrap-server "$at" --create --if-not-exists \
    --topic dev-engines-health --partitions 1 --replication-factor "$(get kafka nodes)" || return 1
  said="$(kafka_java "$lib" org.apache.kafka.tools.VerifiableProducer --bootstrap-server "$at" --topic dev-engines-health \
    --max-messages 1 --acks -1 2>&1)" || true
  grep -q producer_send_success <<<"$said" || { say "$said"; return 1; }
}

kafka_tool() { # CLASS ARGS..
  local class="$1"; shift
  case "$class" in ConsumerGroupCommand) class="consumer.group.$class" ;; esac
  kafka_java "$(get kafka lib)" "org.apache.kafka.tools.$class" --bootstrap-server "$(kafka_address)" "$@"
}
