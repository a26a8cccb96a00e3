/* What `flx_run` calls, one function for each op. */
#pragma once
#include "../flexllmgen.h"

void run_linear(flx_team *team, const flx_linear &linear);
void run_embed(flx_team *team, const flx_embed &embed);
void run_norm(flx_team *team, const flx_norm &norm);
void run_map(flx_team *team, const flx_map &map);
void run_select(flx_team *team, const flx_select &select);
void run_rope(flx_team *team, const flx_rope &rope);
void run_attention(flx_team *team, const flx_attention &attention);
void run_moe(flx_team *team, const flx_moe &moe);
