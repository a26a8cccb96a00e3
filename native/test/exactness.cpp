#include "harness.h"
void test_exactness(Test &) {}
