// Sends prepared HTTP/1.1 requests over keep-alive connections and tells what came back: one thread, epoll. It refuses to know
// what it sends. Closed loop (each connection sends again when it is answered) or open loop at a fixed rate, where latency
// counts from the moment a request was due, so that a stalled server cannot hide its stall.
//
// Usage: load PORT FILE CONNECTIONS SECONDS RATE COUNT
//   FILE     requests, each a little-endian 32-bit length and the bytes; connection i sends i, i+CONNECTIONS, … in turn
//   RATE     requests a second over all connections; 0: closed loop
//   COUNT    ends after this many answers; 0: after SECONDS
// Prints one line of JSON: durations in microseconds, those of answers that are no success left out.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FINE 200000 // 1 us each, then 1 ms each
#define COARSE 60000
#define MAX_HEAD 16384

enum state { HEAD, BODY, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER };

typedef struct { char *bytes; size_t size; } Request;
typedef struct {
  int fd, busy, status, close;
  size_t next, sent;     // request to send, bytes of it sent
  uint64_t due, started; // ns
  enum state state;
  char head[MAX_HEAD];
  size_t nhead;
  uint64_t left;
  int first, line; // whether a byte of the body came; bytes matched of "data:" at a line's start (-1: not at one)
} Conn;
typedef struct { uint32_t *slots; uint64_t n, max; double sum; } Hist;

static Request *requests;
static size_t nrequests, nconns;
static Conn *conns;
static int ep, port;
static size_t *idle, nidle;
static uint64_t answers, failures, bytes, events, reconnects, statuses[6];
static Hist latency, first_byte;
static char sample[300];

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}
static void die(const char *what) { perror(what); exit(1); }

static void observe(Hist *h, uint64_t ns) {
  uint64_t us = ns / 1000, at = us < FINE ? us : FINE + us / 1000;
  if (at >= FINE + COARSE) at = FINE + COARSE - 1;
  h->slots[at]++;
  h->n++;
  h->sum += (double)us;
  if (us > h->max) h->max = us;
}
static double quantile(const Hist *h, double q) {
  uint64_t want = (uint64_t)(q * (double)h->n), seen = 0;
  for (uint64_t i = 0; i < FINE + COARSE; i++) {
    seen += h->slots[i];
    if (seen > want) return i < FINE ? (double)i : (double)(i - FINE) * 1000;
  }
  return (double)h->max;
}
static void print_hist(const char *name, const Hist *h) {
  printf("\"%s\":{\"p50\":%.0f,\"p90\":%.0f,\"p99\":%.0f,\"max\":%lu,\"mean\":%.1f}", name, quantile(h, .5), quantile(h, .9),
         quantile(h, .99), h->max, h->n ? h->sum / (double)h->n : 0);
}

static void connect_to(Conn *c) {
  int on = 1;
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (c->fd < 0) die("socket");
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (connect(c->fd, (struct sockaddr *)&at, sizeof at)) die("connect");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  struct epoll_event e = {EPOLLIN, {.u64 = (uint64_t)(c - conns)}};
  if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
}

static void start(Conn *c, uint64_t due) {
  Request *r = &requests[c->next];
  c->next = (c->next + nconns) % nrequests;
  c->busy = 1;
  c->due = due;
  c->state = HEAD;
  c->nhead = 0;
  c->first = 0;
  c->line = 0;
  c->sent = 0;
  // Requests fit into the socket's buffer: the socket is blocking for writing.
  while (c->sent < r->size) {
    ssize_t n = send(c->fd, r->bytes + c->sent, r->size - c->sent, MSG_NOSIGNAL);
    if (n < 0) { // closed while idle: once anew
      close(c->fd);
      connect_to(c);
      reconnects++;
      c->sent = 0;
      continue;
    }
    c->sent += (size_t)n;
  }
}

static void done(Conn *c) {
  c->busy = 0;
  answers++;
  int class = c->status / 100;
  statuses[class > 5 ? 0 : class]++;
  if (class == 2) observe(&latency, now_ns() - c->due);
  else failures++;
  if (c->close) { close(c->fd); connect_to(c); reconnects++; }
}

/** Looks for lines that begin with "data:". */
static void scan_events(Conn *c, const char *p, size_t n) {
  static const char word[] = "data:";
  for (size_t i = 0; i < n; i++) {
    if (p[i] == '\n') c->line = 0;
    else if (c->line >= 0) {
      if (p[i] == word[c->line]) { if (++c->line == 5) { events++; c->line = -1; } }
      else c->line = -1;
    }
  }
}

static void parse_head(Conn *c) {
  c->head[c->nhead] = 0;
  c->status = atoi(c->head + 9);
  c->close = strcasestr(c->head, "\r\nconnection: close") != NULL;
  char *length = strcasestr(c->head, "\r\ncontent-length:");
  if (length) { c->left = strtoull(length + 17, NULL, 10); c->state = BODY; }
  else if (strcasestr(c->head, "\r\ntransfer-encoding: chunked")) { c->state = CHUNK_SIZE; c->left = 0; }
  else { c->left = 0; c->state = BODY; }
}

/** Eats what was read; 1: the answer is whole. */
static int eat(Conn *c, const char *p, size_t n) {
  while (n > 0 || (c->state == BODY && c->left == 0)) {
    if (c->state == HEAD) {
      while (n > 0 && c->state == HEAD) {
        if (c->nhead == MAX_HEAD - 1) { fprintf(stderr, "head too long\n"); exit(1); }
        c->head[c->nhead++] = *p++;
        n--;
        if (c->nhead >= 4 && memcmp(c->head + c->nhead - 4, "\r\n\r\n", 4) == 0) parse_head(c);
      }
      continue;
    }
    if (n > 0 && !c->first) { c->first = 1; observe(&first_byte, now_ns() - c->due); }
    if (c->state == BODY || c->state == CHUNK) {
      size_t take = n < c->left ? n : (size_t)c->left;
      if (c->status >= 300 && !*sample && take) snprintf(sample, sizeof sample, "%d %.*s", c->status, (int)(take > 250 ? 250 : take), p);
      if (c->state == CHUNK) scan_events(c, p, take);
      bytes += take;
      c->left -= take;
      p += take;
      n -= take;
      if (c->left == 0) { if (c->state == BODY) return 1; c->state = CHUNK_END; c->left = 2; }
    } else if (c->state == CHUNK_END) {
      p++; n--;
      if (--c->left == 0) c->state = CHUNK_SIZE;
    } else if (c->state == CHUNK_SIZE) {
      char d = *p++;
      n--;
      if (d == '\n') { if (c->left == 0) { c->state = TRAILER; c->left = 2; } else c->state = CHUNK; }
      else if (d >= '0' && d <= '9') c->left = c->left * 16 + (uint64_t)(d - '0');
      else if ((d | 32) >= 'a' && (d | 32) <= 'f') c->left = c->left * 16 + (uint64_t)((d | 32) - 'a' + 10);
    } else { // no trailers are expected: the last CRLF
      p++; n--;
      if (--c->left == 0) return 1;
    }
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 7) { fprintf(stderr, "usage: load PORT FILE CONNECTIONS SECONDS RATE COUNT\n"); return 2; }
  prctl(PR_SET_TIMERSLACK, 1UL);
  signal(SIGPIPE, SIG_IGN);
  port = atoi(argv[1]);
  nconns = (size_t)atol(argv[3]);
  double seconds = atof(argv[4]), rate = atof(argv[5]);
  uint64_t count = strtoull(argv[6], NULL, 10);
  FILE *f = fopen(argv[2], "r");
  if (!f) die(argv[2]);
  uint32_t size;
  while (fread(&size, 4, 1, f) == 1) {
    if (nrequests % 1024 == 0) requests = realloc(requests, (nrequests + 1024) * sizeof(Request));
    char *b = malloc(size);
    if (fread(b, 1, size, f) != size) die("read");
    requests[nrequests++] = (Request){b, size};
  }
  fclose(f);
  if (nrequests == 0) { fprintf(stderr, "no requests\n"); return 2; }
  latency.slots = calloc(FINE + COARSE, 4);
  first_byte.slots = calloc(FINE + COARSE, 4);
  ep = epoll_create1(0);
  conns = calloc(nconns, sizeof(Conn));
  idle = malloc(nconns * sizeof(size_t));
  for (size_t i = 0; i < nconns; i++) { conns[i].next = i % nrequests; connect_to(&conns[i]); }
  uint64_t begin = now_ns(), end = begin + (uint64_t)(seconds * 1e9), now = begin;
  uint64_t gap = rate > 0 ? (uint64_t)(1e9 / rate) : 0, due = begin;
  for (size_t i = 0; i < nconns; i++)
    if (gap) idle[nidle++] = nconns - 1 - i;
    else start(&conns[i], now_ns());
  struct epoll_event ready[512];
  static char buffer[1 << 18];
  while ((now = now_ns()) < end && (count == 0 || answers < count)) {
    // What is due and finds no connection free is late from now on: `due` stays its own.
    while (gap && due <= now && nidle > 0) { start(&conns[idle[--nidle]], due); due += gap; }
    uint64_t until = gap && nidle > 0 && due < end ? due : end;
    struct timespec wait = {(time_t)((until - now) / 1000000000), (long)((until - now) % 1000000000)};
    if (until < now) wait = (struct timespec){0, 0};
    int n = epoll_pwait2(ep, ready, 512, &wait, NULL);
    for (int i = 0; i < n; i++) {
      Conn *c = &conns[ready[i].data.u64];
      ssize_t got = recv(c->fd, buffer, sizeof buffer, MSG_DONTWAIT);
      if (got < 0 && errno == EAGAIN) continue;
      if (got <= 0) {
        if (c->busy) { failures++; if (!*sample) snprintf(sample, sizeof sample, "connection lost"); }
        close(c->fd);
        connect_to(c);
        reconnects++;
        if (c->busy) { c->busy = 0; if (gap) idle[nidle++] = (size_t)(c - conns); else start(c, now_ns()); }
        continue;
      }
      if (!c->busy || !eat(c, buffer, (size_t)got)) continue;
      done(c);
      if (gap) idle[nidle++] = (size_t)(c - conns);
      else if (count == 0 || answers < count) start(c, now_ns());
    }
  }
  double took = (double)(now_ns() - begin) / 1e9;
  for (char *s = sample; *s; s++) if (*s == '"' || *s == '\\' || (unsigned char)*s < 32 || (unsigned char)*s > 126) *s = ' ';
  printf("{\"seconds\":%.3f,\"answers\":%lu,\"failures\":%lu,\"reconnects\":%lu,\"bytes\":%lu,\"events\":%lu,\"late\":%.0f,", took, answers,
         failures, reconnects, bytes, events, gap ? (double)(now_ns() - due) / 1e6 : 0);
  printf("\"statuses\":[%lu,%lu,%lu,%lu,%lu,%lu],", statuses[0], statuses[1], statuses[2], statuses[3], statuses[4], statuses[5]);
  print_hist("latency", &latency);
  printf(",");
  print_hist("firstByte", &first_byte);
  printf(",\"sample\":\"%s\"}\n", sample);
}
