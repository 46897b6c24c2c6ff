/// \file
/// The codecs of the list that store one element per number: for tests of elements, and of foreign rows without
/// factors. HEED_CODEC_LAWS (codec/codec_laws.hpp) is for every codec.
#pragma once

#include <type_traits>

#include <heed/codec/codecs.hpp>

namespace heed_test {

template <class C>
concept PlainCodec = requires { typename C::Element; };

template <class Made, class... C>
struct PlainOf {
  using Type = Made;
};
template <class Made, class C, class... Others>
struct PlainOf<Made, C, Others...>
    : PlainOf<std::conditional_t<PlainCodec<C>, typename Made::template With<C>, Made>, Others...> {};
template <class... C>
using PlainOfAll = typename PlainOf<heed::List<>, C...>::Type;

using PlainCodecs = heed::Codecs::As<PlainOfAll>;
static_assert(PlainCodecs::First::factors == heed::Factors::none);

}  // namespace heed_test
