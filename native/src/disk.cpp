/* Transfers from and to files on threads of their own, so that they go on whatever the program's other threads do. */
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "../flexllmgen.h"

#if !defined(_WIN32)
#include <fcntl.h>
#include <unistd.h>

namespace {
struct Transfer {
  int64_t ticket;
  int32_t file;
  int64_t offset;
  char *memory;
  int64_t bytes;
  bool writes;
};
} // namespace

struct flx_disk {
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::condition_variable wanted, finished;
  std::deque<Transfer> queue;
  std::deque<flx_disk_done> done;
  int64_t open = 0; /* queued or under way */
  bool stopped = false;
};

/* As much as there is: less than `bytes` only at the end of a file that is read. Returns -errno if nothing could be moved, or not all could be written. */
static int64_t move_all(const Transfer &all) {
  int64_t have = 0;
  while (have < all.bytes) {
    char *memory = all.memory + have;
    const size_t left = static_cast<size_t>(all.bytes - have);
    const off_t offset = static_cast<off_t>(all.offset + have);
    const ssize_t count = all.writes ? pwrite(all.file, memory, left, offset) : pread(all.file, memory, left, offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return have > 0 && !all.writes ? have : -static_cast<int64_t>(errno);
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
    const Transfer transfer = disk->queue.front();
    disk->queue.pop_front();
    lock.unlock();
    const int64_t bytes = move_all(transfer);
    lock.lock();
    disk->done.push_back({transfer.ticket, bytes});
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

static void want(flx_disk *disk, const Transfer &transfer) {
  {
    const std::lock_guard<std::mutex> lock(disk->mutex);
    disk->queue.push_back(transfer);
    disk->open++;
  }
  disk->wanted.notify_one();
}

extern "C" void flx_disk_read(flx_disk *disk, int32_t file, int64_t offset, void *to, int64_t bytes, int64_t ticket) {
  want(disk, {ticket, file, offset, static_cast<char *>(to), bytes, false});
}

extern "C" void flx_disk_write(flx_disk *disk, int32_t file, int64_t offset, const void *from, int64_t bytes, int64_t ticket) {
  want(disk, {ticket, file, offset, static_cast<char *>(const_cast<void *>(from)), bytes, true});
}

extern "C" int32_t flx_disk_set_aside(int32_t file, int64_t bytes) {
#if defined(__linux__)
  if (fallocate(file, 0, 0, static_cast<off_t>(bytes)) == 0) return 0; /* posix_fallocate would write zeros where the file system cannot */
  return errno == EOPNOTSUPP || errno == ENOSYS ? 1 : -errno;
#else
  (void)file, (void)bytes;
  return 1;
#endif
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
extern "C" void flx_disk_write(flx_disk *, int32_t, int64_t, const void *, int64_t, int64_t) {}
extern "C" int32_t flx_disk_set_aside(int32_t, int64_t) { return 1; }
extern "C" int64_t flx_disk_wait(flx_disk *, flx_disk_done *, int64_t) { return 0; }
#endif
