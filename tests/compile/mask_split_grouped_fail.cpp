// expect: a mask that is read in two lists cannot depend on the KV head
#include <heed/retention/landmark_mask.hpp>
#include <heed/retention/mask_ref.hpp>

struct PerHead : heed::LandmarkMask {
  bool visible(heed::Index, heed::Index key, heed::Index kv_head) const { return key != kv_head; }
  heed::Coverage coverage(heed::Interval, heed::Interval, heed::Index) const { return heed::Coverage::partial; }
  using heed::LandmarkMask::coverage;
  using heed::LandmarkMask::visible;
};
heed::MaskRef mask(const PerHead& mask) { return mask; }
