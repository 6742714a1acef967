#include "tests/fuzz/mutator.h"

namespace tssx::fuzz {
namespace {

Mutator* active = nullptr;

void note_load(void* address) {
  if (active != nullptr) active->note_load(address);
}

}  // namespace

Mutator::Mutator(const GuardedSegment& segment, SegmentPage& page, std::uint64_t capacity,
                 Input script)
    : segment_(segment), page_(page), capacity_(capacity), script_(script) {
  next_in_ = script_.byte() % 64U;
  active = this;
}

Mutator::~Mutator() { active = nullptr; }

void Mutator::note_load(void* address) {
  if (!segment_.is_page(address) || script_.empty()) return;
  if (next_in_-- != 0) return;
  next_in_ = script_.byte() % 64U;
  // Mostly the word that is about to be read, which core may have checked a moment ago.
  if (script_.byte() < 192) {
    const auto* const base = reinterpret_cast<const std::uint8_t*>(&page_);
    const auto offset = static_cast<std::size_t>(static_cast<std::uint8_t*>(address) - base);
    scribble_at(page_, offset, capacity_, script_);
  } else {
    scribble(page_, capacity_, script_);
  }
}

}  // namespace tssx::fuzz

extern "C" {
void __sanitizer_cov_load1(std::uint8_t* address) { tssx::fuzz::note_load(address); }
void __sanitizer_cov_load2(std::uint16_t* address) { tssx::fuzz::note_load(address); }
void __sanitizer_cov_load4(std::uint32_t* address) { tssx::fuzz::note_load(address); }
void __sanitizer_cov_load8(std::uint64_t* address) { tssx::fuzz::note_load(address); }
void __sanitizer_cov_load16(__int128* address) { tssx::fuzz::note_load(address); }
}
