/* Reads of files on threads of their own, so that they go on whatever the program's other threads do. */
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "../flexllmgen.h"

#if !defined(_WIN32)
#include <unistd.h>

namespace {
struct Read {
  int64_t ticket;
  int32_t file;
  int64_t offset;
  char *to;
  int64_t bytes;
};
} // namespace

struct flx_disk {
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::condition_variable wanted, finished;
  std::deque<Read> queue;
  std::deque<flx_disk_done> done;
  int64_t open = 0; /* queued or under way */
  bool stopped = false;
};

/* As much as there is: less than `bytes` only at the end of the file. Returns -errno if nothing could be read. */
static int64_t read_all(const Read &read) {
  int64_t have = 0;
  while (have < read.bytes) {
    const ssize_t count = pread(read.file, read.to + have, static_cast<size_t>(read.bytes - have), static_cast<off_t>(read.offset + have));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return have > 0 ? have : -static_cast<int64_t>(errno);
    if (count == 0) break;
    have += count;
  }
  return have;
}

static void serve(flx_disk *disk) {
  std::unique_lock<std::mutex> lock(disk->mutex);
  for (;;) {
    disk->wanted.wait(lock, [&] { return disk->stopped || !disk->queue.empty(); });
    if (disk->queue.empty()) return;
    const Read read = disk->queue.front();
    disk->queue.pop_front();
    lock.unlock();
    const int64_t bytes = read_all(read);
    lock.lock();
    disk->done.push_back({read.ticket, bytes});
    disk->open--;
    disk->finished.notify_one();
  }
}

extern "C" flx_disk *flx_disk_create(int32_t threads) {
  flx_disk *disk = new (std::nothrow) flx_disk;
  if (!disk) return nullptr;
  try {
    for (int32_t i = 0; i < threads; i++) disk->threads.emplace_back(serve, disk);
  } catch (...) {
    flx_disk_free(disk);
    return nullptr;
  }
  return disk;
}

extern "C" void flx_disk_free(flx_disk *disk) {
  {
    const std::lock_guard<std::mutex> lock(disk->mutex);
    disk->stopped = true;
  }
  disk->wanted.notify_all();
  for (std::thread &thread : disk->threads) thread.join();
  delete disk;
}

extern "C" void flx_disk_read(flx_disk *disk, int32_t file, int64_t offset, void *to, int64_t bytes, int64_t ticket) {
  {
    const std::lock_guard<std::mutex> lock(disk->mutex);
    disk->queue.push_back({ticket, file, offset, static_cast<char *>(to), bytes});
    disk->open++;
  }
  disk->wanted.notify_one();
}

extern "C" int64_t flx_disk_wait(flx_disk *disk, flx_disk_done *done, int64_t most) {
  std::unique_lock<std::mutex> lock(disk->mutex);
  disk->finished.wait(lock, [&] { return !disk->done.empty() || disk->open == 0; });
  int64_t count = 0;
  for (; count < most && !disk->done.empty(); count++) {
    done[count] = disk->done.front();
    disk->done.pop_front();
  }
  return count;
}
#else
struct flx_disk {};
extern "C" flx_disk *flx_disk_create(int32_t) { return nullptr; }
extern "C" void flx_disk_free(flx_disk *) {}
extern "C" void flx_disk_read(flx_disk *, int32_t, int64_t, void *, int64_t, int64_t) {}
extern "C" int64_t flx_disk_wait(flx_disk *, flx_disk_done *, int64_t) { return 0; }
#endif
