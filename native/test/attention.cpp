#include "harness.h"
void test_attention(Test &) {}
