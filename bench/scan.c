/* The yardstick of the scan bench: the same work in C. Walks a tree, stats, reads and hashes every regular file with OpenSSL's SHA-256
 * on THREADS threads, reads each link, prints a line a path. Build: cc -O2 -pthread -o scan scan.c -lcrypto */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER (128 * 1024)
#define BATCH 64

struct item { char *path; struct stat st; };
static struct item *items;
static size_t count, room;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static size_t next_item;
static EVP_MD *sha256;

static void add(const char *path, const struct stat *st) {
  if (count == room) {
    room = room ? room * 2 : 4096;
    items = realloc(items, room * sizeof *items);
    if (!items) abort();
  }
  items[count].path = strdup(path);
  items[count++].st = *st;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static void walk(const char *path, dev_t dev) {
  struct dirent **names;
  int n = scandir(path, &names, NULL, by_name);
  if (n < 0) { fprintf(stderr, "%s: %s\n", path, strerror(errno)); return; }
  for (int i = 0; i < n; i++) {
    const char *name = names[i]->d_name;
    if (strcmp(name, ".") && strcmp(name, "..")) {
      char full[4096];
      struct stat st;
      snprintf(full, sizeof full, "%s/%s", path, name);
      if (lstat(full, &st) == 0) {
        add(full, &st);
        if (S_ISDIR(st.st_mode) && st.st_dev == dev) walk(full, dev);
      }
    }
    free(names[i]);
  }
  free(names);
}

static void *work(void *unused) {
  (void)unused;
  unsigned char *buffer = malloc(BUFFER), md[32];
  EVP_MD_CTX *ctx = EVP_MD_CTX_new();
  for (;;) {
    pthread_mutex_lock(&lock);
    size_t from = next_item;
    next_item += BATCH;
    pthread_mutex_unlock(&lock);
    if (from >= count) break;
    size_t to = from + BATCH < count ? from + BATCH : count;
    for (size_t i = from; i < to; i++) {
      struct item *item = &items[i];
      char line[4096 + 256];
      int len;
      if (S_ISREG(item->st.st_mode)) {
        int fd = open(item->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) continue;
        EVP_DigestInit_ex2(ctx, sha256, NULL);
        ssize_t got;
        while ((got = read(fd, buffer, BUFFER)) > 0) EVP_DigestUpdate(ctx, buffer, got);
        EVP_DigestFinal_ex(ctx, md, NULL);
        close(fd);
        char hex[65];
        for (int k = 0; k < 32; k++) sprintf(hex + 2 * k, "%02x", md[k]);
        len = snprintf(line, sizeof line, "%s type=file mode=%04o uid=%u gid=%u size=%lld sha256digest=%s\n", item->path,
                       item->st.st_mode & 07777, item->st.st_uid, item->st.st_gid, (long long)item->st.st_size, hex);
      } else if (S_ISLNK(item->st.st_mode)) {
        char target[4096];
        ssize_t got = readlink(item->path, target, sizeof target - 1);
        target[got < 0 ? 0 : got] = 0;
        len = snprintf(line, sizeof line, "%s type=link uid=%u gid=%u link=%.3000s\n", item->path, item->st.st_uid, item->st.st_gid, target);
      } else {
        len = snprintf(line, sizeof line, "%s type=dir mode=%04o uid=%u gid=%u\n", item->path, item->st.st_mode & 07777, item->st.st_uid, item->st.st_gid);
      }
      flockfile(stdout);
      fwrite_unlocked(line, 1, len, stdout);
      funlockfile(stdout);
    }
  }
  EVP_MD_CTX_free(ctx);
  free(buffer);
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 3) { fprintf(stderr, "usage: scan ROOT THREADS\n"); return 64; }
  int threads = atoi(argv[2]);
  struct stat st;
  if (threads < 1 || threads > 64 || lstat(argv[1], &st) != 0) { perror(argv[1]); return 1; }
  sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
  walk(argv[1], st.st_dev);
  pthread_t ids[64];
  for (int i = 0; i < threads; i++) pthread_create(&ids[i], NULL, work, NULL);
  for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
  return 0;
}
