#!/usr/bin/env bash
# Runs the program as the image, the compose files and the Deployment would, without a container engine: uid 1000, no
# capabilities, no new privileges, a root that is read-only and holds nothing but the program, its libraries, bash and the
# certificates; keys mounted as a Secret is (links to files of root with the mode 0440 and the group 1000); the settings of
# k8s/overlays/production and no other variable. It must make keys, migrate, answer every probe and the image's HEALTHCHECK,
# and stop in its grace. What must be refused is tried, too.
#   staging/image-rehearsal.sh            builds the program and takes that
#   ROOKERY_BIN=… staging/image-rehearsal.sh
# Needs root or sudo without a password: a user and a root of its own cannot be had otherwise.
# Does not show: that the Dockerfile builds, that the base image has the same libraries, seccomp, limits of memory, or what
# a cluster makes of the manifests.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
  "")
    bin=${ROOKERY_BIN:-}
    if [ -z "$bin" ]; then
      cargo build --locked --bin rookery
      bin=${CARGO_TARGET_DIR:-target}/debug/rookery
    fi
    as=()
    if [ "$(id -u)" -ne 0 ]; then
      sudo -n true 2>/dev/null || { echo "Needs root, or sudo without a password." >&2; exit 2; }
      as=(sudo -n --preserve-env=PATH,PG_BIN,DATABASE_URL)
    fi
    export WITH_POSTGRES_FSYNC=on
    # Whatever is mounted below ends with this one.
    exec env -u DATABASE_URL staging/with-postgres.sh ${as[@]+"${as[@]}"} \
      unshare --mount --propagation private staging/image-rehearsal.sh inside "$(realpath "$bin")"
    ;;
  inside) bin=$2 ;;
  *) echo "usage: staging/image-rehearsal.sh" >&2; exit 2 ;;
esac

root=$(mktemp -d "${TMPDIR:-/tmp}/rookery-root.XXXXXX")
log=$(mktemp "${TMPDIR:-/tmp}/rookery-log.XXXXXX")
server=""
clean_up() {
  [ -z "$server" ] || { kill -KILL "$server" && wait "$server"; } 2>/dev/null || true
  umount -R -l "$root" 2>/dev/null || true
  rmdir "$root" 2>/dev/null || true
  rm -f "$log"
}
trap clean_up EXIT
fail() {
  echo "FAILED: $1" >&2
  [ ! -s "$log" ] || tail -20 "$log" >&2
  exit 1
}
say() { echo "ok: $1"; }
since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

# ---- the root ----
mount -t tmpfs -o mode=0755 tmpfs "$root"
put() { # a file, with the libraries it is linked to, at the same path or at $2
  install -D "$1" "$root${2:-$1}"
  ldd "$1" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
    [ -e "$root$library" ] || install -D "$library" "$root$library"
  done
}
put "$bin" /usr/local/bin/rookery
put "$(realpath "$(command -v bash)")" /bin/bash
put "$(command -v setpriv)" /sbin/setpriv
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
install -d "$root/proc" "$root/dev" "$root/tmp" "$root/run/postgresql" "$root/etc/rookery/keys"
install -d -o 1000 -g 1000 -m 0700 "$root/data"
echo "rookery:x:1000:1000::/data:/usr/sbin/nologin" >"$root/etc/passwd"
echo "127.0.0.1 localhost" >"$root/etc/hosts"
mount --rbind /proc "$root/proc"
for device in null zero random urandom; do touch "$root/dev/$device" && mount --bind "/dev/$device" "$root/dev/$device"; done
# The server reaches Postgres by its socket, the one thing of this machine that is let in.
host=${DATABASE_URL##*host=} host=${host%%&*}
touch "$root/run/postgresql/.s.PGSQL.5432"
mount --bind "$host/.s.PGSQL.5432" "$root/run/postgresql/.s.PGSQL.5432"
mount -t tmpfs -o mode=0700,uid=1000,gid=1000 tmpfs "$root/data"
mount -o remount,ro,mode=0755 "$root"

settings=()
while read -r line; do settings+=("$line"); done < <(grep -hv '^#' k8s/base/settings.env k8s/overlays/production/settings.env)
free_port() {
  local port
  while port=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}
port=$(free_port) metrics=$(free_port)
# Of the Secret, and two ports that are free here.
settings+=("SERVER_PORT=$port" "METRICS_PORT=$metrics" "LOG_HASH_KEY=sixteen characters" PATH=/usr/local/bin:/bin
  "DATABASE_URL=postgres://rookery@localhost/postgres?host=/run/postgresql&sslmode=disable" DATA_DIR=/data)
# VARIABLE=value … -- command: as user 1000, without a right, in that root, with the settings and those variables alone.
chroot=$(command -v chroot)
jailed() {
  local -a more=()
  while [ "$1" != -- ]; do more+=("$1") && shift; done
  shift
  exec env -i "${settings[@]}" ${more[@]+"${more[@]}"} "$chroot" "$root" /sbin/setpriv --reuid 1000 --regid 1000 --clear-groups \
    --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
}
refused() { # what is to be said, then as jailed
  local said
  if said=$( (jailed "${@:2}") 2>&1); then fail "started although: $1"; fi
  grep -q "$1" <<<"$said" || fail "refused for another reason than \"$1\": $said"
}

# ---- keys, and how a Secret brings them ----
(jailed KEYS_DIR=/data/keys -- rookery keygen) >"$log" 2>&1 || fail "keygen"
secret=$root/etc/rookery/keys
mount -t tmpfs -o mode=2755,gid=1000 tmpfs "$secret"
mkdir "$secret/..of_this_version"
for key in peer checkpoint; do
  install -o 0 -g 1000 -m 0440 "$root/data/keys/$key.key" "$secret/..of_this_version/$key.key"
  ln -s "..data/$key.key" "$secret/$key.key"
done
ln -s ..of_this_version "$secret/..data"
mount -o remount,ro "$secret"
# From here on there is nothing that could be written to.
umount "$root/data"
! (jailed -- bash -c ': >/data/x || : >/tmp/x || : >/x') 2>/dev/null || fail "the root can be written to"
say "keys of root, mode 0440, read through the group 1000; nothing can be written to"

# ---- the Job ----
(jailed -- rookery migrate) >"$log" 2>&1 || fail "migrate"
say "migrate"

# ---- what must be refused ----
mount -o remount,rw "$secret" && chmod 0444 "$secret/..data/peer.key"
refused "may be read by others" -- rookery serve
chmod 0440 "$secret/..data/peer.key" && mount -o remount,ro "$secret"
refused "ROOKERY_PORT is no setting" ROOKERY_PORT=tcp://10.0.0.1:80 -- rookery serve
refused "SERVICE_DID is" SERVICE_DID=did:web:other.example.com -- rookery serve
say "refused: a key that others may read, the variables of service links, a name that is not the host's"

# ---- the Deployment ----
started=$EPOCHREALTIME
(jailed -- rookery serve) >"$log" 2>&1 &
server=$!
ask() { # port and path: the status, then the answer
  (exec 3<>"/dev/tcp/127.0.0.1/$1" && printf 'GET %s HTTP/1.0\r\nhost: x\r\n\r\n' "$2" >&3 && cat <&3) 2>/dev/null
}
is_ok() { ask "$1" "$2" | head -1 | grep -q ' 200 '; }
until is_ok "$port" /health/live; do
  kill -0 "$server" 2>/dev/null || fail "it ended at its start"
  [ "$SECONDS" -lt 120 ] || fail "it does not listen"
  sleep 0.1
done
say "live after $(since "$started") s"
until is_ok "$port" /health/ready; do [ "$SECONDS" -lt 150 ] || fail "it is not ready"; sleep 0.2; done
ask "$port" /.well-known/did.json | grep -q '"did:web:chat.example.com"' || fail "did.json"
ask "$metrics" /metrics | grep -q ^rookery_ || fail "metrics"
! ask "$port" /metrics | head -1 | grep -q ' 200 ' || fail "the metrics are public"
say "ready; did.json; metrics on their own port alone"

mapfile -d '' -t health < <(python3 -c '
import json, re
argv = json.loads(re.search(r"HEALTHCHECK.*\n\s+CMD (\[.*\])", open("Dockerfile").read())[1])
print("\0".join(argv), end="\0")')
(jailed -- "${health[@]}") || fail "HEALTHCHECK says no of a server that is ready"
if (jailed "SERVER_PORT=$(free_port)" -- "${health[@]}") 2>/dev/null; then fail "HEALTHCHECK says yes where nobody listens"; fi
say "the image's HEALTHCHECK says yes, and no where nobody listens"

status=$(cat "/proc/$server/status")
for line in "Uid:.1000.1000.1000.1000" "Gid:.1000.1000.1000.1000" "CapEff:.0000000000000000" "CapBnd:.0000000000000000" "NoNewPrivs:.1"; do
  grep -q "^$line$" <<<"$status" || fail "not $line: $(grep "^${line%%:*}" <<<"$status")"
done
written=$(find "/proc/$server/fd" -mindepth 1 -printf '%f %l\n' | while read -r fd file; do
  case $file in socket:* | anon_inode:* | pipe:* | /dev/* | "$log") continue ;; esac
  [ "$((0$(awk '/^flags/ { print $2 }' "/proc/$server/fdinfo/$fd") & 3))" -eq 0 ] || echo "$file"
done)
[ -z "$written" ] || fail "it has files open to write: $written"
say "uid 1000, no capabilities, no new privileges, no file open to write"

# ---- the stop, with a request that is half sent ----
value() { grep -h "^$1=" k8s/base/settings.env | cut -d= -f2; }
most=$((($(value DRAIN_MS) + $(value SHUTDOWN_GRACE_MS)) / 1000 + 5 + 1))
exec 4<>"/dev/tcp/127.0.0.1/$port"
printf 'POST /xrpc/blue.catbird.mls.sendMessage HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n' >&4
sleep 0.5
stopped=$EPOCHREALTIME
kill -TERM "$server"
sleep 0.5
! is_ok "$port" /health/ready || fail "still ready after SIGTERM"
outcome=0
wait "$server" || outcome=$?
server=""
exec 4>&-
[ "$outcome" -eq 0 ] || fail "it ended with $outcome"
took=$(since "$stopped")
[ "${took%.*}" -le "$most" ] || fail "it took $took s to stop, at most $most"
say "stopped with success after $took s, with a request half sent (at most $most)"
echo "The image is rehearsed. Not shown: that the Dockerfile builds, the base's own libraries, seccomp, a cluster."
