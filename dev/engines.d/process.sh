# shellcheck shell=bash disable=SC2154 # variables of dev/engines
# Processes: ended or signalled only when pid and start time are those that were written down.

say() { printf "%s\n" "$*"; }
die() { printf 'dev/engines: %s\n' "$*" >&2; exit 1; }

# What is remembered of an engine between two calls, in $run/.ENGINE/KEY.
get() { cat "$run/.$1/$2" 2>/dev/null || printf '%s' "${3:-}"; }
put() { mkdir -p "$run/.$1"; printf '%s' "$3" > "$run/.$1/$2"; }

engine_of() { # NAME
  case "$1" in
    kafka-*) printf kafka ;;
    cassandra-*) printf cassandra ;;
    redis | redis-*) printf redis ;;
    postgres) printf postgres ;;
    *) die "there is no $1: dev/engines status lists what there is" ;;
  esac
}

names() { # [ENGINE]
  local engine dir
  for engine in ${1:-$engines}; do
    for dir in "$run/$engine" "$run/$engine"-*; do
      if [ -d "$dir" ]; then basename "$dir"; fi
    done
  done
}

# The names that arguments stand for: a name is itself, an engine all of its processes.
named() {
  local word
  for word in "$@"; do
    case " $engines " in
      *" $word "*) [ -n "$(names "$word")" ] || die "no $word was started: dev/engines up $word"; names "$word" ;;
      *)
        engine_of "$word" >/dev/null
        [ -d "$run/$word" ] || die "there is no $word here: dev/engines status lists what there is"
        say "$word" ;;
    esac
  done
}

# Empty for a process that is gone, or dead and not yet collected by its parent.
started_at() { cut -d')' -f2- "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }

alive() { # NAME
  local pid at
  read -r pid at 2>/dev/null < "$run/$1/pid" || return 1
  [ -n "$at" ] && [ "$(started_at "$pid")" = "$at" ]
}

pid_of() { cut -d' ' -f1 "$run/$1/pid"; }

suspended() { cut -d')' -f2- "/proc/$(pid_of "$1")/stat" 2>/dev/null | grep -q '^ T'; }

# A process and its children: Postgres answers with one process for each connection.
family() { # PID
  printf '%s ' "$1"
  cat /proc/[0-9]*/stat 2>/dev/null | sed 's/^\([0-9]*\) (.*) /\1 /' | awk -v parent="$1" '$3 == parent { printf "%s ", $1 }'
}

signal() { # SIGNAL NAME..
  local signal="$1" name list; shift
  [ $# -gt 0 ] || die "which one? dev/engines status lists them"
  list="$(named "$@")"
  for name in $list; do alive "$name" || die "$name does not run"; done
  for name in $list; do
    # shellcheck disable=SC2046 # several pids; a child may be gone by now
    kill "-$signal" $(family "$(pid_of "$name")") 2>/dev/null || true
  done
  [ "$signal" = KILL ] || return 0
  # Gone when this returns: a large process takes a moment to fall.
  for name in $list; do
    for _ in $(seq 100); do alive "$name" || break; sleep 0.05; done
  done
}

launch() { # NAME COMMAND..
  local name="$1" pid; shift
  # A session of its own, without Ctrl-C of this terminal; descriptor 9, the lock, must not live on in it.
  setsid nohup "$@" >> "$run/$name/log" 2>&1 < /dev/null 9>&- &
  pid=$!
  printf '%s %s\n' "$pid" "$(started_at "$pid")" > "$run/$name/pid"
  disown "$pid"
}

end() { # NAME SIGNAL SECONDS
  alive "$1" || { rm -f "$run/$1/pid"; return 0; }
  local pid; pid="$(pid_of "$1")"
  # shellcheck disable=SC2046
  kill -CONT $(family "$pid") 2>/dev/null || true
  kill "-$2" "$pid"
  for _ in $(seq $(($3 * 10))); do alive "$1" || break; sleep 0.1; done
  # A broker without a quorum does not leave by itself.
  # shellcheck disable=SC2046
  if alive "$1"; then kill -9 $(family "$pid") 2>/dev/null || true; fi
  rm -f "$run/$1/pid"
}

answers() { (exec 3<>"/dev/tcp/${2:-127.0.0.1}/$1") 2>/dev/null; }

free_port() { # PORT ENGINE [ADDRESS]
  # What was killed a moment ago may still be ending.
  for _ in $(seq 10); do
    answers "$1" "${3:-127.0.0.1}" || return 0
    sleep 0.3
  done
  die "port $1 is taken; HAWSER_${2^^}_PORT moves the ports of $2"
}

tail_log() { printf -- '--- the end of %s\n' "$run/$1/log" >&2; tail -n "${2:-15}" "$run/$1/log" >&2; printf -- '---\n' >&2; }

# Until COMMAND is content; what it said last is shown when it never was, or when a process of the list ended.
wait_for() { # SECONDS "NAME.." WHAT COMMAND..
  local seconds="$1" list="$2" what="$3" until said name; shift 3
  until=$((SECONDS + seconds))
  until said="$("$@" 2>&1)"; do
    for name in $list; do
      alive "$name" || { tail_log "$name"; die "$name ended while it was waited for"; }
    done
    if [ $SECONDS -ge $until ]; then
      for name in $list; do tail_log "$name" 8; done
      say "$said" >&2
      die "$what not within $seconds s (HAWSER_ENGINES_WAIT_S gives more); logs are in $run"
    fi
    sleep 0.2
  done
}
