#include "team.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
static inline void pause_briefly() { _mm_pause(); }
#else
static inline void pause_briefly() { std::this_thread::yield(); }
#endif

/* Looks for the next job this often before a thread sleeps: about 0.3 ms, more than lies between two programs of a sweep. */
static constexpr int SPINS = 20000;
/* Then the caller gives its core away while others finish: a thread whose core was taken would wait for it. */
static constexpr int SPINS_BEFORE_YIELD = 20000;

namespace {
struct Job {
  void (*work)(const void *, int64_t);
  const void *context;
  int64_t count;
};
} // namespace

/*
 * Tiles are taken from one counter, so that a thread whose core is taken away keeps only its own tile from the others. The counter holds the number
 * of the job in its upper half: a thread that is late finds another number and takes nothing.
 */
struct flx_team {
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::condition_variable wake;
  Job job{};
  alignas(64) std::atomic<uint64_t> next{0};
  alignas(64) std::atomic<int64_t> done{0};
  alignas(64) std::atomic<uint32_t> number{0};
  int32_t sleeping = 0; /* under the mutex */
  std::atomic<bool> stopped{false};
};

static void take_tiles(flx_team *team, const Job &job, uint32_t number) {
  for (;;) {
    uint64_t ticket = team->next.load(std::memory_order_acquire);
    do {
      if (static_cast<uint32_t>(ticket >> 32) != number || static_cast<int64_t>(ticket & 0xffffffffu) >= job.count) return;
    } while (!team->next.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel));
    job.work(job.context, static_cast<int64_t>(ticket & 0xffffffffu));
    team->done.fetch_add(1, std::memory_order_acq_rel);
  }
}

static void serve(flx_team *team) {
  uint32_t seen = 0;
  for (;;) {
    for (int spin = 0; spin < SPINS && team->number.load(std::memory_order_acquire) == seen; spin++) pause_briefly();
    if (team->number.load(std::memory_order_acquire) == seen) {
      std::unique_lock<std::mutex> lock(team->mutex);
      team->sleeping++;
      team->wake.wait(lock, [&] { return team->number.load() != seen || team->stopped.load(); });
      team->sleeping--;
    }
    if (team->stopped.load()) return;
    Job job;
    {
      std::lock_guard<std::mutex> lock(team->mutex);
      seen = team->number.load(std::memory_order_relaxed);
      job = team->job;
    }
    take_tiles(team, job, seen);
  }
}

void team_run(flx_team *team, int64_t count, void (*work)(const void *, int64_t), const void *context) {
  if (count <= 0) return;
  if (team->threads.empty() || count == 1) {
    for (int64_t tile = 0; tile < count; tile++) work(context, tile);
    return;
  }
  uint32_t number;
  {
    std::lock_guard<std::mutex> lock(team->mutex);
    number = team->number.load(std::memory_order_relaxed) + 1;
    team->job = {work, context, count};
    team->done.store(0, std::memory_order_relaxed);
    team->next.store(static_cast<uint64_t>(number) << 32, std::memory_order_release);
    team->number.store(number, std::memory_order_release);
    if (team->sleeping > 0) team->wake.notify_all();
  }
  take_tiles(team, team->job, number);
  for (int spin = 0; team->done.load(std::memory_order_acquire) < count; spin++) {
    if (spin < SPINS_BEFORE_YIELD) pause_briefly();
    else std::this_thread::yield();
  }
}

int64_t team_size(const flx_team *team) { return static_cast<int64_t>(team->threads.size()) + 1; }

flx_team *flx_team_create(int32_t threads) {
  flx_team *team = new (std::nothrow) flx_team;
  if (!team) return nullptr;
  try {
    for (int32_t i = 1; i < threads; i++) team->threads.emplace_back(serve, team);
  } catch (...) {
    flx_team_free(team);
    return nullptr;
  }
  return team;
}

void flx_team_free(flx_team *team) {
  {
    std::lock_guard<std::mutex> lock(team->mutex);
    team->stopped.store(true);
    team->number.fetch_add(1);
  }
  team->wake.notify_all();
  for (auto &thread : team->threads) thread.join();
  delete team;
}
