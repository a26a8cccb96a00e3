#include "harness.h"
void test_rest(Test &) {}
