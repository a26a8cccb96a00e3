#include "steps.h"

extern "C" int32_t flx_abi(void) { return FLX_ABI; }

extern "C" const char *flx_isa(void) { return FLX_ISA; }

extern "C" int64_t flx_arguments_bytes(int32_t op) {
  switch (op) {
    case FLX_LINEAR: return sizeof(flx_linear);
    case FLX_EMBED: return sizeof(flx_embed);
    case FLX_NORM: return sizeof(flx_norm);
    case FLX_MAP: return sizeof(flx_map);
    case FLX_SELECT: return sizeof(flx_select);
    case FLX_ROPE: return sizeof(flx_rope);
    case FLX_ATTENTION: return sizeof(flx_attention);
    case FLX_MOE: return sizeof(flx_moe);
    default: return 0;
  }
}

template <class Arguments> static const Arguments &as(const flx_step &step) { return *static_cast<const Arguments *>(step.arguments); }

static void run_step(flx_team *team, const flx_step &step) {
  switch (step.op) {
    case FLX_LINEAR: return run_linear(team, as<flx_linear>(step));
    case FLX_EMBED: return run_embed(team, as<flx_embed>(step));
    case FLX_NORM: return run_norm(team, as<flx_norm>(step));
    case FLX_MAP: return run_map(team, as<flx_map>(step));
    case FLX_SELECT: return run_select(team, as<flx_select>(step));
    case FLX_ROPE: return run_rope(team, as<flx_rope>(step));
    case FLX_ATTENTION: return run_attention(team, as<flx_attention>(step));
    case FLX_MOE: return run_moe(team, as<flx_moe>(step));
    default: return;
  }
}

extern "C" void flx_run(flx_team *team, const flx_step *steps, int64_t count) {
  for (int64_t i = 0; i < count; i++) run_step(team, steps[i]);
}
