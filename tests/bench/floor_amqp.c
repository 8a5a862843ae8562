/* floor_amqp: the least consumer of RabbitMQ that only acknowledges, on rabbitmq-c, to measure the daemon against.
 *
 *   floor_amqp PORT QUEUE PREFETCH COUNT      basic.consume, and basic.ack of each message as it has come
 *
 * Ends after COUNT messages and prints {"rate": messages a second}. */
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void fail(const char *what)
{
    fprintf(stderr, "floor_amqp: %s\n", what);
    exit(1);
}

static void check(amqp_connection_state_t c, const char *what)
{
    if (amqp_get_rpc_reply(c).reply_type != AMQP_RESPONSE_NORMAL)
        fail(what);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        fail("PORT QUEUE PREFETCH COUNT");
    long count = strtol(argv[4], NULL, 10);
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(c);
    if (!socket || amqp_socket_open(socket, "127.0.0.1", (int)strtol(argv[1], NULL, 10)) != AMQP_STATUS_OK)
        fail("no connection");
    if (amqp_login(c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest").reply_type != AMQP_RESPONSE_NORMAL)
        fail("login");
    double begin = now();
    amqp_channel_open(c, 1);
    check(c, "channel");
    amqp_basic_qos(c, 1, 0, (uint16_t)strtol(argv[3], NULL, 10), 0);
    check(c, "qos");
    amqp_basic_consume(c, 1, amqp_cstring_bytes(argv[2]), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
    check(c, "consume");
    for (long i = 0; i < count; i++) {
        amqp_envelope_t e;
        amqp_maybe_release_buffers(c);
        if (amqp_consume_message(c, &e, NULL, 0).reply_type != AMQP_RESPONSE_NORMAL)
            fail("message");
        if (amqp_basic_ack(c, 1, e.delivery_tag, 0) != AMQP_STATUS_OK)
            fail("ack");
        amqp_destroy_envelope(&e);
    }
    /* The last acknowledgements have arrived when this is answered. */
    amqp_channel_close(c, 1, AMQP_REPLY_SUCCESS);
    printf("{\"rate\": %.1f}\n", (double)count / (now() - begin));
    amqp_connection_close(c, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(c);
    return 0;
}
