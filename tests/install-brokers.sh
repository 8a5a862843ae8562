#!/bin/sh
# Brings the message brokers that the system tests run against, where one is missing; as root or with sudo.
#
#   tests/install-brokers.sh [BROKER...]      all without one: redis rabbitmq kafka sqs
#
# What Debian has is installed from it, without a service of its own being started; the rest goes to $TRIGGERD_BROKERS
# (build/brokers), a folder a broker, and stays there. What cannot be had (no network) is told, and its tests are skipped;
# the exit status is 0 all the same.
set -u

here=$(cd "$(dirname "$0")" && pwd)
brokers=${TRIGGERD_BROKERS:-$here/../build/brokers}

installed() { # PACKAGE
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

debian() { # PACKAGE...
    for package; do
        installed "$package" || missing="${missing:-} $package"
    done
    [ -n "${missing:-}" ] || return 0
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    # shellcheck disable=SC2086 # a list of words
    $sudo apt-get -qq update && $sudo env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes \
        apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends $missing >/dev/null
}

# Debian's redis-tools holds the server too, under another name; redis-server alone would be a service of the machine.
install_redis() {
    debian redis-tools &&
        mkdir -p "$brokers/redis" &&
        ln -sf /usr/bin/redis-check-rdb "$brokers/redis/redis-server" &&
        "$brokers/redis/redis-server" --version >/dev/null
}

# The package alone would be a service of the machine; what it needs of Erlang is none.
install_rabbitmq() {
    debian erlang-base erlang-crypto erlang-eldap erlang-inets erlang-mnesia erlang-os-mon erlang-parsetools \
        erlang-public-key erlang-runtime-tools erlang-ssl erlang-syntax-tools erlang-tools erlang-xmerl || return 1
    set -- "$brokers"/rabbitmq/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server
    if [ ! -x "$1" ]; then
        rm -rf "$brokers/rabbitmq.new"
        mkdir -p "$brokers/rabbitmq.new" && (
            cd "$brokers/rabbitmq.new" &&
                apt-get -qq -o APT::Sandbox::User=root download rabbitmq-server &&
                dpkg-deb -x ./*.deb . && rm ./*.deb &&
                cd .. && rm -rf rabbitmq && mv rabbitmq.new rabbitmq
        )
    fi
}

# moto, which speaks as SQS does.
install_sqs() {
    "$brokers/sqs/bin/moto_server" --help >/dev/null 2>&1 && return 0
    mkdir -p "$brokers" && python3 -m venv "$brokers/sqs" && "$brokers/sqs/bin/pip" -q install 'moto[server]'
}

# Kafka's jars, with those that they need, as its releases name them.
install_kafka() {
    jars=$brokers/kafka/3.9.1
    [ -e "$jars/complete" ] && return 0
    command -v java >/dev/null || debian openjdk-17-jre-headless || return 1
    command -v mvn >/dev/null || debian maven || return 1
    pom=$(mktemp -d) && mkdir -p "$jars" || return 1
    cat >"$pom/pom.xml" <<'END'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>triggerd.tests</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>3.9.1</version>
    </dependency>
  </dependencies>
</project>
END
    mvn -q -B -f "$pom/pom.xml" dependency:copy-dependencies -DoutputDirectory="$jars" -DincludeScope=runtime &&
        touch "$jars/complete"
    status=$?
    rm -r "$pom"
    return $status
}

[ $# -gt 0 ] || set -- redis rabbitmq kafka sqs
for broker; do
    if ! (install_"$broker"); then
        echo "without $broker: its tests are skipped"
    fi
done
