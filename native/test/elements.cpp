#include "harness.h"
void test_elements(Test &) {}
