#!/bin/sh
# Replaces every replica of a service by one of the present image and settings, without a failed call:
# deploy/rolling.sh SERVICE [compose arguments, such as -f docker-compose.yml ...]. Run in deploy/.
#
# One at a time: a new replica joins and is healthy before an old one goes, and the old one goes only after every
# client has had reason to look at the name again (CIR_CONNECTION_AGE_SECONDS).
#
# In place, where there can be only one: the demo, search with the embedded store, and search and the HTTP gateway with
# a single published port.
# For some seconds nobody takes calls; clients with wait_for_ready wait for the new one.
set -eu
service=$1
shift
compose="${COMPOSE:-docker-compose} $*"

# A variable of the compose files: from the environment, or else from .env.
setting() {
    eval "value=\${$1:-}"
    [ -n "$value" ] || value=$(sed -n "s/^$1=//p" .env 2> /dev/null | tail -n 1)
    echo "${value:-$2}"
}

containers() { $compose ps -q "$service"; }

wait_healthy() {
    tries=0
    until [ "$(docker inspect -f '{{.State.Health.Status}}' "$1")" = healthy ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt 300 ]; then
            echo "the new container $1 is not healthy${2:-}: docker logs $1" >&2
            exit 1
        fi
        sleep 1
    done
}

in_place() {
    case "$service $*" in
        demo*) true ;;
        search*docker-compose.embedded.yml*) true ;;
        search*) case $(setting CIR_SEARCH_PORTS 50050) in *-*) false ;; esac ;;
        http*) case $(setting CIR_HTTP_PORTS 8081) in *-*) false ;; esac ;;
        *) false ;;
    esac
}

old=$(containers)
[ -n "$old" ] || { echo "$service has no container; start it with make up" >&2; exit 1; }
count=$(echo "$old" | wc -l)

if in_place "$@"; then
    $compose up -d --no-deps --force-recreate "$service"
    wait_healthy "$(containers)"
    echo "replaced in place"
    exit
fi

age=$(setting CIR_CONNECTION_AGE_SECONDS 30)
for container in $old; do
    before=$(containers)
    $compose up -d --no-deps --no-recreate --scale "$service=$((count + 1))" "$service"
    new=$(containers | grep -v -F "$before")
    wait_healthy "$new" "; the old ones go on"
    sleep $((age + 2))
    docker stop --time 45 "$container" > /dev/null
    docker rm "$container" > /dev/null
    echo "replaced one of $count"
done
