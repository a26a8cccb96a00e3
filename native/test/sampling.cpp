#include "harness.h"
void test_sampling(Test &) {}
