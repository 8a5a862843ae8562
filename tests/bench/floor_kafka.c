/* floor_kafka: the least consumer of Kafka that only commits, on librdkafka, to measure the daemon against.
 *
 *   floor_kafka PORT TOPIC BATCH COUNT      messages in batches of at most BATCH, and a commit of each batch's offsets
 *
 * Ends after COUNT messages, when the last commit is answered, and prints {"rate": messages a second}. */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void fail(const char *what)
{
    fprintf(stderr, "floor_kafka: %s\n", what);
    exit(1);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[256];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) != RD_KAFKA_CONF_OK)
        fail(why);
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
        fail("PORT TOPIC BATCH COUNT");
    size_t batch = strtoul(argv[3], NULL, 10);
    long count = strtol(argv[4], NULL, 10);
    rd_kafka_message_t **messages = calloc(batch, sizeof(*messages));
    char servers[32], why[256];
    snprintf(servers, sizeof(servers), "127.0.0.1:%s", argv[1]);
    double begin = now();
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", servers);
    set(conf, "group.id", "floor");
    set(conf, "auto.offset.reset", "earliest");
    set(conf, "enable.auto.commit", "false");
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why));
    if (!rk)
        fail(why);
    rd_kafka_poll_set_consumer(rk);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(topics, argv[2], RD_KAFKA_PARTITION_UA);
    if (!messages || rd_kafka_subscribe(rk, topics) != RD_KAFKA_RESP_ERR_NO_ERROR)
        fail("subscribe");
    for (long seen = 0; seen < count;) {
        ssize_t n = rd_kafka_consume_batch_queue(queue, 10, messages, batch);
        if (n < 0)
            fail("consume");
        for (ssize_t i = 0; i < n; i++) {
            if (messages[i]->err)
                fail(rd_kafka_message_errstr(messages[i]));
            rd_kafka_message_destroy(messages[i]);
        }
        seen += n;
        /* What was handed out, of every partition; the last one is waited for. */
        rd_kafka_resp_err_t r = n > 0 ? rd_kafka_commit(rk, NULL, seen < count) : RD_KAFKA_RESP_ERR_NO_ERROR;
        if (r != RD_KAFKA_RESP_ERR_NO_ERROR)
            fail(rd_kafka_err2str(r));
    }
    printf("{\"rate\": %.1f}\n", (double)count / (now() - begin));
    rd_kafka_topic_partition_list_destroy(topics);
    rd_kafka_queue_destroy(queue);
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
    free(messages);
    return 0;
}
