// Numbers that look random and follow from another number.
#pragma once

#include <cstdint>

namespace vhdkit {

// One step of splitmix64: every x has a value of its own.
constexpr uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

}  // namespace vhdkit
