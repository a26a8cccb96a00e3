/* Threads that share the tiles of one job after another. */
#pragma once
#include <cstdint>

#include "../flexllmgen.h"

/* Calls work(context, tile) for every tile from 0 to count, in any order, on all threads, and returns when all are done. */
void team_run(flx_team *team, int64_t count, void (*work)(const void *context, int64_t tile), const void *context);

int64_t team_size(const flx_team *team);

template <class Work> void parallel(flx_team *team, int64_t count, const Work &work) {
  team_run(team, count, [](const void *context, int64_t tile) { (*static_cast<const Work *>(context))(tile); }, &work);
}
