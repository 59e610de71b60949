/* The stricter floor: what `bench.peers.bare_loop` does, in C. A loop of send() over blocking sockets, and no Redis.

   bare_loop LISTENER_FD EVENTS_FD: each line on EVENTS_FD is a path and the data of an event for everyone who asked for
   that path. Ends with the events. */

#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUCKETS 65536
#define PATH_BYTES 64
#define LINE_BYTES 65536

static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n:\n\n";

/* Those who watch one path. */
struct topic {
    struct topic *next;
    char path[PATH_BYTES];
    int *viewers;
    size_t count;
};

static struct topic *topics[BUCKETS];

static struct topic *topic_of(const char *path, size_t length) {
    unsigned long hash = 5381;
    for (size_t i = 0; i < length; i++) hash = hash * 33 + (unsigned char)path[i];
    struct topic **at = &topics[hash % BUCKETS];
    while (*at && (strncmp((*at)->path, path, length) || (*at)->path[length])) at = &(*at)->next;
    if (!*at && (*at = calloc(1, sizeof **at))) memcpy((*at)->path, path, length);
    return *at;
}

static void admit(int listener) {
    char request[4096] = {0};
    int client = accept(listener, NULL, NULL), one = 1;
    if (client < 0 || recv(client, request, sizeof request - 1, 0) <= 0) return;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    char *path = strchr(request, ' '), *end = path ? strchr(path + 1, ' ') : NULL;
    if (!end || end - path > PATH_BYTES) {
        close(client);
        return;
    }
    struct topic *topic = topic_of(path + 1, (size_t)(end - path - 1));
    topic->viewers = realloc(topic->viewers, (topic->count + 1) * sizeof(int));
    topic->viewers[topic->count++] = client;
    send(client, HEAD, sizeof HEAD - 1, MSG_NOSIGNAL);
}

static void relay(const char *line, size_t length) {
    static char frame[LINE_BYTES + 64];
    const char *data = memchr(line, ' ', length);
    if (!data) return;
    struct topic *topic = topic_of(line, (size_t)(data - line));
    int size = snprintf(frame, sizeof frame, "id: 17\nevent: progress\ndata: %.*s\n\n",
                        (int)(length - (size_t)(data + 1 - line)), data + 1);
    for (size_t i = 0; i < topic->count;) {
        if (send(topic->viewers[i], frame, (size_t)size, MSG_NOSIGNAL) < 0) {
            close(topic->viewers[i]);
            topic->viewers[i] = topic->viewers[--topic->count];
        } else {
            i++;
        }
    }
}

/* Relay the whole lines of what has come; 0 at the end of the events. */
static int take(int events) {
    static char buffer[2 * LINE_BYTES];
    static size_t held;
    ssize_t got = read(events, buffer + held, LINE_BYTES);
    if (got <= 0) return 0;
    held += (size_t)got;
    char *line = buffer, *end;
    while ((end = memchr(line, '\n', held - (size_t)(line - buffer)))) {
        relay(line, (size_t)(end - line));
        line = end + 1;
    }
    held -= (size_t)(line - buffer);
    memmove(buffer, line, held);
    return 1;
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    struct pollfd fds[] = {{atoi(arguments[1]), POLLIN, 0}, {atoi(arguments[2]), POLLIN, 0}};
    for (;;) {
        if (poll(fds, 2, -1) < 0) return 1;
        if (fds[0].revents) admit(fds[0].fd);
        if (fds[1].revents && !take(fds[1].fd)) return 0;
    }
}
