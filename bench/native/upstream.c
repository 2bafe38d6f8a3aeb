// Stands in for Drupal, fast enough not to be what is measured: answers HTTP/1.1 from a list of rules, one thread, epoll.
// It refuses to know MCP: what it says stands in files.
//
// Usage: upstream PORT RULES
// A rule is one line: METHOD PATH-PREFIX NEEDLE STATUS HEADER FILE [EVENTS INTERVAL-US]
//   NEEDLE  text that the body must hold, or -
//   HEADER  one more header line with ~ for blanks, or -
//   FILE    the body; @ID@ in it becomes the "id" of the request's JSON; - is no body
//   EVENTS  the file is one event of a stream: this many, one each INTERVAL-US (0: all at once);
//           -1: no stream, a whole answer after INTERVAL-US of work
// The first rule that fits answers. GET /.working tells the most answers that were at work at once since it was asked last.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_RULES 256
#define MAX_CONNS 65536
#define READ_SIZE 65536

typedef struct {
  char method[16], path[256], needle[256], header[256];
  int status;
  char *before, *after; // the body around @ID@
  size_t nbefore, nafter;
  int has_id;
  long events, interval_us;
} Rule;

typedef struct {
  int fd, streaming;
  char *in;
  size_t nin, cap;
  char *out;
  size_t nout, at, outcap;
  const Rule *rule;
  long left;
  uint64_t due;
  char id[128];
  size_t nid;
} Conn;

static Rule rules[MAX_RULES];
static int nrules, ep;
static Conn *conns[MAX_CONNS];
static int streams[MAX_CONNS], nstreams, working, most_working;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void read_rules(const char *file) {
  FILE *f = fopen(file, "r");
  if (!f) die(file);
  char line[2048], body[1024];
  while (fgets(line, sizeof line, f)) {
    if (*line == '\n' || *line == '#') continue;
    if (nrules == MAX_RULES) { fprintf(stderr, "too many rules\n"); exit(1); }
    Rule *r = &rules[nrules++];
    int n = sscanf(line, "%15s %255s %255s %d %255s %1023s %ld %ld", r->method, r->path, r->needle, &r->status,
                   r->header, body, &r->events, &r->interval_us);
    if (n < 6) { fprintf(stderr, "bad rule: %s", line); exit(1); }
    for (char *c = r->header; *c; c++) if (*c == '~') *c = ' ';
    r->before = r->after = calloc(1, 1);
    if (strcmp(body, "-") == 0) continue;
    FILE *b = fopen(body, "r");
    if (!b) die(body);
    fseek(b, 0, SEEK_END);
    size_t size = (size_t)ftell(b);
    rewind(b);
    char *text = malloc(size + 1);
    if (fread(text, 1, size, b) != size) die(body);
    text[size] = 0;
    fclose(b);
    char *mark = memmem(text, size, "@ID@", 4);
    r->has_id = mark != NULL;
    r->before = text;
    r->nbefore = mark ? (size_t)(mark - text) : size;
    if (mark) { r->after = mark + 4; r->nafter = size - r->nbefore - 4; }
  }
  fclose(f);
}

static void close_conn(Conn *c) {
  if (c->streaming && c->rule->events < 0) working--;
  if (c->streaming)
    for (int i = 0; i < nstreams; i++)
      if (streams[i] == c->fd) { streams[i] = streams[--nstreams]; break; }
  conns[c->fd] = NULL;
  close(c->fd);
  free(c->in);
  free(c->out);
  free(c);
}

static void append(Conn *c, const char *bytes, size_t n) {
  if (c->nout + n > c->outcap) {
    c->outcap = (c->nout + n) * 2;
    c->out = realloc(c->out, c->outcap);
  }
  memcpy(c->out + c->nout, bytes, n);
  c->nout += n;
}

/** 0: all sent, 1: the rest waits for the socket, -1: closed. */
static int flush(Conn *c) {
  while (c->at < c->nout) {
    ssize_t n = send(c->fd, c->out + c->at, c->nout - c->at, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EAGAIN) {
        struct epoll_event e = {EPOLLIN | EPOLLOUT | EPOLLRDHUP, {.fd = c->fd}};
        epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
        return 1;
      }
      close_conn(c);
      return -1;
    }
    c->at += (size_t)n;
  }
  c->at = c->nout = 0;
  return 0;
}

static size_t body_size(const Conn *c, const Rule *r) {
  return r->nbefore + (r->has_id ? c->nid : 0) + r->nafter;
}

static void append_body(Conn *c, const Rule *r) {
  append(c, r->before, r->nbefore);
  if (r->has_id) append(c, c->id, c->nid);
  append(c, r->after, r->nafter);
}

static void append_whole(Conn *c, const Rule *r) {
  char head[512];
  const char *extra = strcmp(r->header, "-") ? r->header : NULL;
  size_t size = body_size(c, r);
  append(c, head, (size_t)sprintf(head, "HTTP/1.1 %d OK\r\n%s%s%sContent-Length: %zu\r\n\r\n", r->status,
    size ? "Content-Type: application/json\r\n" : "", extra ? extra : "", extra ? "\r\n" : "", size));
  append_body(c, r);
}

static void append_event(Conn *c) {
  char head[32];
  append(c, head, (size_t)sprintf(head, "%zx\r\n", body_size(c, c->rule)));
  append_body(c, c->rule);
  append(c, "\r\n", 2);
}

static void answer(Conn *c, const char *request, size_t nhead, size_t nbody) {
  const char *body = request + nhead;
  const Rule *r = NULL;
  const char *space = memchr(request, ' ', nhead);
  for (int i = 0; i < nrules && space; i++) {
    size_t nm = strlen(rules[i].method), np = strlen(rules[i].path);
    if ((size_t)(space - request) != nm || memcmp(request, rules[i].method, nm)) continue;
    if (strncmp(space + 1, rules[i].path, np)) continue;
    if (strcmp(rules[i].needle, "-") && !memmem(body, nbody, rules[i].needle, strlen(rules[i].needle))) continue;
    r = &rules[i];
    break;
  }
  char head[512];
  if (!strncmp(request, "GET /.working ", 14)) {
    char told[32];
    int n = sprintf(told, "{\"most\":%d}", most_working);
    most_working = working;
    append(c, head, (size_t)sprintf(head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", n, told));
    return;
  }
  if (!r) {
    static const char none[] = "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    append(c, none, sizeof none - 1);
    return;
  }
  c->nid = 4;
  memcpy(c->id, "null", 4);
  const char *id = r->has_id ? memmem(body, nbody, "\"id\":", 5) : NULL;
  if (id) {
    id += 5;
    size_t n = 0, most = (size_t)(body + nbody - id);
    while (n < most && n < sizeof c->id && id[n] != ',' && id[n] != '}') n++;
    memcpy(c->id, id, n);
    c->nid = n;
  }
  const char *extra = strcmp(r->header, "-") ? r->header : NULL;
  if (r->events < 0) {
    if (++working > most_working) most_working = working;
    c->rule = r;
    c->streaming = 1;
    c->due = now_us() + (uint64_t)r->interval_us;
    streams[nstreams++] = c->fd;
    return;
  }
  if (r->events) {
    append(c, head, (size_t)sprintf(head,
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n%s%s\r\n",
      extra ? extra : "", extra ? "\r\n" : ""));
    c->rule = r;
    c->left = r->events;
    do { append_event(c); } while (--c->left && r->interval_us == 0);
    if (!c->left) { append(c, "0\r\n\r\n", 5); return; }
    c->streaming = 1;
    c->due = now_us() + (uint64_t)r->interval_us;
    streams[nstreams++] = c->fd;
    return;
  }
  append_whole(c, r);
}

/** Header value as a number, found without case. */
static long content_length(const char *head, size_t n) {
  static const char name[] = "\r\ncontent-length:";
  for (size_t i = 0; i + sizeof name < n; i++)
    if (head[i] == '\r' && strncasecmp(head + i, name, sizeof name - 1) == 0) return atol(head + i + sizeof name - 1);
  return 0;
}

static void readable(Conn *c) {
  for (;;) {
    if (c->cap - c->nin < READ_SIZE) c->in = realloc(c->in, c->cap += READ_SIZE * 2);
    ssize_t n = recv(c->fd, c->in + c->nin, READ_SIZE, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) { close_conn(c); return; }
    if (n > 0) c->nin += (size_t)n;
    if (n < READ_SIZE) break;
  }
  size_t used = 0;
  while (!c->streaming && used < c->nin) {
    char *start = c->in + used, *end = memmem(start, c->nin - used, "\r\n\r\n", 4);
    if (!end) break;
    size_t nhead = (size_t)(end - start) + 4;
    size_t nbody = (size_t)content_length(start, nhead);
    if (c->nin - used < nhead + nbody) break;
    answer(c, start, nhead, nbody);
    used += nhead + nbody;
  }
  if (used) memmove(c->in, c->in + used, c->nin -= used);
  flush(c);
}

static void tick(void) {
  uint64_t now = now_us();
  for (int i = 0; i < nstreams; i++) {
    Conn *c = conns[streams[i]];
    if (c->due > now) continue;
    if (c->rule->events < 0) {
      append_whole(c, c->rule);
      working--;
      c->streaming = 0;
      streams[i--] = streams[--nstreams];
      flush(c);
      continue;
    }
    while (c->left && c->due <= now) {
      append_event(c);
      c->left--;
      c->due += (uint64_t)c->rule->interval_us;
    }
    if (!c->left) {
      append(c, "0\r\n\r\n", 5);
      c->streaming = 0;
      streams[i] = streams[--nstreams];
      i--;
    }
    if (flush(c) < 0) i--;
  }
}

int main(int argc, char **argv) {
  if (argc != 3) { fprintf(stderr, "usage: upstream PORT RULES\n"); return 2; }
  signal(SIGPIPE, SIG_IGN);
  read_rules(argv[2]);
  int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(listener, (struct sockaddr *)&at, sizeof at)) die("bind");
  if (listen(listener, 4096)) die("listen");
  ep = epoll_create1(0);
  struct epoll_event e = {EPOLLIN, {.fd = listener}};
  epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e);
  struct epoll_event events[512];
  for (;;) {
    int n = epoll_wait(ep, events, 512, nstreams ? 1 : -1);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        int got;
        while ((got = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          if (got >= MAX_CONNS) { close(got); continue; }
          setsockopt(got, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
          conns[got] = calloc(1, sizeof(Conn));
          conns[got]->fd = got;
          struct epoll_event c = {EPOLLIN | EPOLLRDHUP, {.fd = got}};
          epoll_ctl(ep, EPOLL_CTL_ADD, got, &c);
        }
        continue;
      }
      Conn *c = conns[fd];
      if (c && (events[i].events & EPOLLOUT)) {
        struct epoll_event back = {EPOLLIN | EPOLLRDHUP, {.fd = fd}};
        epoll_ctl(ep, EPOLL_CTL_MOD, fd, &back);
        if (flush(c) < 0) continue;
      }
      if (c && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP))) readable(c);
    }
    if (nstreams) tick();
  }
}
