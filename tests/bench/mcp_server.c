/* mcp_server: the least MCP server over standard input and output, for a client to be measured with. Its tools:
 *
 *   echo {"text"}                  the text
 *   flood {"count", "bytes"}       nothing; behind the answer `count` notifications `row_inserted` with the params
 *                                  {"n": 0, 1, …; "pad"}, each of `bytes` bytes on its line, as fast as they are read
 *
 * Answers go out when nothing more is there to be read. */
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fail(const char *what)
{
    fprintf(stderr, "mcp_server: %s\n", what);
    exit(1);
}

static void flood(const cJSON *arguments)
{
    static const char head[] = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/row_inserted\",\"params\":{\"n\":";
    static const char middle[] = ",\"pad\":\"", tail[] = "\"}}";
    const cJSON *count = cJSON_GetObjectItemCaseSensitive(arguments, "count");
    const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(arguments, "bytes");
    if (!cJSON_IsNumber(count) || !cJSON_IsNumber(bytes) || bytes->valueint > 65536)
        fail("flood: expected count and bytes");
    char pad[65537];
    memset(pad, 'x', sizeof(pad));
    for (int i = 0; i < count->valueint; i++) {
        char n[16];
        int fixed = snprintf(n, sizeof(n), "%d", i) + (int)(strlen(head) + strlen(middle) + strlen(tail));
        int padding = bytes->valueint > fixed ? bytes->valueint - fixed : 0;
        if (printf("%s%s%s%.*s%s\n", head, n, middle, padding, pad, tail) < 0)
            fail("cannot write");
    }
}

static cJSON *text_result(const char *text)
{
    cJSON *result = cJSON_CreateObject(), *block = cJSON_CreateObject();
    cJSON_AddStringToObject(block, "type", "text");
    cJSON_AddStringToObject(block, "text", text);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(result, "content"), block);
    return result;
}

static cJSON *initialize(const cJSON *params)
{
    cJSON *result = cJSON_CreateObject(), *info;
    const char *version = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(params, "protocolVersion"));
    cJSON_AddStringToObject(result, "protocolVersion", version ? version : "2025-06-18");
    cJSON_AddObjectToObject(cJSON_AddObjectToObject(result, "capabilities"), "tools");
    info = cJSON_AddObjectToObject(result, "serverInfo");
    cJSON_AddStringToObject(info, "name", "bench");
    cJSON_AddStringToObject(info, "version", "1");
    return result;
}

static cJSON *list(void)
{
    static const char *const names[] = {"echo", "flood"};
    cJSON *result = cJSON_CreateObject(), *tools = cJSON_AddArrayToObject(result, "tools");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        cJSON *tool = cJSON_CreateObject();
        cJSON_AddStringToObject(tool, "name", names[i]);
        cJSON_AddStringToObject(cJSON_AddObjectToObject(tool, "inputSchema"), "type", "object");
        cJSON_AddItemToArray(tools, tool);
    }
    return result;
}

static void answer(const cJSON *id, cJSON *result)
{
    cJSON *message = cJSON_CreateObject();
    cJSON_AddStringToObject(message, "jsonrpc", "2.0");
    cJSON_AddItemToObject(message, "id", cJSON_Duplicate(id, true));
    cJSON_AddItemToObject(message, "result", result);
    char *text = cJSON_PrintUnformatted(message);
    if (!text || puts(text) < 0)
        fail("cannot write");
    cJSON_free(text);
    cJSON_Delete(message);
}

static void take(const char *line)
{
    cJSON *message = cJSON_Parse(line);
    const char *method = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(message, "method"));
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(message, "id");
    const cJSON *params = cJSON_GetObjectItemCaseSensitive(message, "params");
    const cJSON *arguments = cJSON_GetObjectItemCaseSensitive(params, "arguments");
    const char *tool = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(params, "name"));
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(arguments, "text"));
    if (!method)
        fail("what it is sent has no method");
    if (!id) {
        cJSON_Delete(message);
        return;
    }
    if (strcmp(method, "initialize") == 0)
        answer(id, initialize(params));
    else if (strcmp(method, "tools/list") == 0)
        answer(id, list());
    else if (strcmp(method, "ping") == 0)
        answer(id, cJSON_CreateObject());
    else if (strcmp(method, "tools/call") == 0 && tool)
        answer(id, text_result(text ? text : ""));
    else
        fail("an unknown method");
    if (tool && strcmp(tool, "flood") == 0)
        flood(arguments);
    cJSON_Delete(message);
}

int main(void)
{
    static char in[1 << 20], out[1 << 16];
    size_t have = 0;
    setvbuf(stdout, out, _IOFBF, sizeof(out));
    for (;;) {
        ssize_t n = read(STDIN_FILENO, in + have, sizeof(in) - have);
        if (n <= 0)
            return n < 0;
        have += (size_t)n;
        char *line = in, *end;
        while ((end = memchr(line, '\n', have - (size_t)(line - in))) != NULL) {
            *end = '\0';
            take(line);
            line = end + 1;
        }
        have -= (size_t)(line - in);
        memmove(in, line, have);
        if (have == sizeof(in))
            fail("a line is too long");
        if (fflush(stdout) != 0)
            return 1;
    }
}
