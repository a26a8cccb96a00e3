#include "harness.h"
void test_experts(Test &) {}
