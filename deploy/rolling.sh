#!/bin/sh
# Replaces every replica of a service by one of the present image and settings, one at a time, without a failed
# call: deploy/rolling.sh SERVICE [compose arguments, such as -f docker-compose.yml ...]. Run in deploy/.
#
# A new replica joins and is healthy before an old one goes, and the old one goes only after every client has
# had reason to look at the name again (CIR_CONNECTION_AGE_SECONDS).
set -eu
service=$1
shift
compose="${COMPOSE:-docker-compose} $*"
age=${CIR_CONNECTION_AGE_SECONDS:-30}

containers() { $compose ps -q "$service"; }

old=$(containers)
[ -n "$old" ] || { echo "$service has no container; start it with make up" >&2; exit 1; }
count=$(echo "$old" | wc -l)
for container in $old; do
    before=$(containers)
    $compose up -d --no-deps --no-recreate --scale "$service=$((count + 1))" "$service"
    new=$(containers | grep -v -F "$before")
    tries=0
    until [ "$(docker inspect -f '{{.State.Health.Status}}' "$new")" = healthy ]; do
        tries=$((tries + 1))
        if [ "$tries" -gt 300 ]; then
            echo "the new container $new is not healthy; the old ones go on: docker logs $new" >&2
            exit 1
        fi
        sleep 1
    done
    sleep $((age + 2))
    docker stop --time 45 "$container" > /dev/null
    docker rm "$container" > /dev/null
    echo "replaced one of $count"
done
