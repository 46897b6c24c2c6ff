/// \file
/// Rows addressed by consecutive slots, in pages that may be shared.
#pragma once

#include <algorithm>
#include <span>
#include <utility>

#include <heed/cache/page_layout.hpp>
#include <heed/cache/sliding_array.hpp>
#include <heed/rule.hpp>

namespace heed::inline HEED_ABI::detail {

/// A table of pages for the slots of one layer group. Slots are any numbers >= 0. Slot s lies in page s / tokens, and
/// only pages with slots in use exist. In the table of recent tokens the first pages are given back and new ones are
/// added at the end, so no row ever moves.
class PageTable {
 public:
  PageTable() = default;
  /// A table without pages, which will be of `layout`.
  PageTable(PoolHandle pool, const PageLayout& layout) noexcept : pool_(std::move(pool)), layout_(layout) {}
  /// Takes over the pages.
  PageTable(PageTable&& other) noexcept
      : pool_(other.pool_), layout_(other.layout_), pages_(std::move(other.pages_)), first_(other.first_) {}
  PageTable& operator=(PageTable&& other) noexcept {
    if (this == &other) return *this;
    clear();
    pages_ = std::move(other.pages_);  // before the pool, which may end with its last handle
    pool_ = other.pool_;
    layout_ = other.layout_;
    first_ = other.first_;
    return *this;
  }
  ~PageTable() { clear(); }

  /// The shape of its pages.
  [[nodiscard]] const PageLayout& layout() const noexcept { return layout_; }
  /// Number of pages.
  [[nodiscard]] Index pages() const noexcept { return pages_.size(); }
  /// The pages in the order of their slots.
  [[nodiscard]] std::span<Page* const> span() const noexcept { return pages_.span(); }
  /// How many pages with slots from `slot` on have another holder.
  [[nodiscard]] Index shared_pages(Index slot = 0) const noexcept {
    Index shared = 0;
    for (Index p = std::max<Index>(0, slot / layout_.tokens() - first_); p < pages_.size(); ++p) {
      shared += PagePool::shared(pages_[p]);
    }
    return shared;
  }
  /// Slots in existing pages from `slot` on.
  [[nodiscard]] Index room(Index slot) const noexcept {
    return pages_.empty() ? 0 : (first_ + pages_.size()) * layout_.tokens() - slot;
  }
  /// Bytes of the table itself.
  [[nodiscard]] Index allocated() const noexcept { return pages_.allocated(); }

  /// Makes the slots [begin, end) writable: their pages exist and have no other holder. If a page must be copied, rows
  /// of the slots [used.begin, used.end) are copied. The pool allocates at most `spare` pages at once, but at least
  /// one. out_of_memory: rows and pages are as before, except that some shared pages may have become copies.
  [[nodiscard]] Status make_writable(Index begin, Index end, Interval used, Index spare = unlimited) {
    Status status = try_writable(begin, end, used, spare);
    settle();
    return status;
  }
  /// The same, but revert() can give the new pages back. The old memory is kept until settle().
  [[nodiscard]] Status try_writable(Index begin, Index end, Interval used, Index spare) {
    if (begin >= end) return {};
    const Index tokens = layout_.tokens(), first = begin / tokens, last = (end - 1) / tokens;
    if (pages_.empty()) first_ = first;
    front_ = std::max<Index>(0, first_ - first);
    back_ = std::max<Index>(0, last + 1 - (first_ + pages_.size()));
    Status status = add_pages(spare);
    for (Index p = first; status.ok() && p <= last; ++p) {
      if (PagePool::shared(pages_[p - first_])) status = own_page(p, used, spare--);
    }
    if (!status.ok()) revert();
    return status;
  }
  /// Makes the growth final.
  void settle() noexcept {
    pages_.settle();
    front_ = back_ = 0;
  }
  /// Gives back the pages, and the memory of the table, that were added since the last settle(). Copies stay.
  void revert() noexcept {
    drop(front_, back_);
    pages_.revert();
    front_ = back_ = 0;
  }

  /// Memory for `count` more pages in the table itself.
  [[nodiscard]] Status reserve(Index count) { return pages_.reserve_exactly(pool_->metered(), count); }

  /// Gives back memory of the table itself that `most` pages do not need.
  void shrink(Index most) noexcept { pages_.shrink(pool_->metered(), most); }

  /// Gives back the pages without a slot in [begin, end).
  void keep_only(Index begin, Index end) noexcept {
    const Index tokens = layout_.tokens();
    if (begin >= end) {
      clear();
      return;
    }
    const Index front = std::clamp<Index>(begin / tokens - first_, 0, pages_.size());
    const Index back = std::clamp<Index>(first_ + pages_.size() - ((end - 1) / tokens + 1), 0, pages_.size() - front);
    drop(front, back);
  }
  /// Gives back all pages.
  void clear() noexcept {
    for (Page* const page : pages_.span()) pool_->release(page);
    pages_.pop_back(pages_.size());
  }

  /// Holds the pages of `other` instead of its own.
  [[nodiscard]] Status share(const PageTable& other) {
    clear();
    first_ = other.first_;
    if (Status status = pages_.copy_from(pool_->metered(), other.pages_); !status.ok()) return status;
    for (Page* const page : pages_.span()) PagePool::share(page);
    return {};
  }

  /// Rows of one head from `slot` on: those in one page, at most `max`.
  [[nodiscard]] RowRun row_run(Index layer, int stream, Index head, Index slot, Index max) const noexcept {
    const Index page = slot / layout_.tokens(), at = slot % layout_.tokens();
    return layout_.row_run(pages_[page - first_], layer, stream, head, at, std::min(max, layout_.tokens() - at));
  }

  /// Stores rows of the slots slot .. slot + count; see PageLayout::encode.
  template <class C>
  void encode(Index layer, int stream, Index slot, Index count, Index heads, Index width,
              const float* numbers) noexcept {
    while (count > 0) {
      const Index at = slot % layout_.tokens(), n = std::min(count, layout_.tokens() - at);
      layout_.encode<C>(pages_[slot / layout_.tokens() - first_], layer, stream, at, n, width, numbers);
      numbers += n * heads * width;
      slot += n;
      count -= n;
    }
  }

  /// Copies `count` rows of every head from slot `from` of `source` to slot `to`, ascending: the tables may be one, if
  /// to <= from.
  void copy(const PageTable& source, Index from, Index to, Index count) noexcept {
    const Index tokens = layout_.tokens();
    while (count > 0) {
      const Index n = std::min({count, tokens - from % tokens, tokens - to % tokens});
      layout_.copy(source.pages_[from / tokens - source.first_], from % tokens, pages_[to / tokens - first_],
                   to % tokens, n);
      from += n;
      to += n;
      count -= n;
    }
  }

  /// The bytes of one row, for snapshots.
  /// \{
  [[nodiscard]] std::byte* row(Index layer, int stream, Index head, Index slot) noexcept {
    return layout_.row(pages_[slot / layout_.tokens() - first_], layer, stream, head, slot % layout_.tokens());
  }
  [[nodiscard]] const std::byte* row(Index layer, int stream, Index head, Index slot) const noexcept {
    const Page* const page = pages_[slot / layout_.tokens() - first_];
    return layout_.row(page, layer, stream, head, slot % layout_.tokens());
  }
  /// \}
  /// The row's entry in the plane of factors.
  /// \{
  [[nodiscard]] std::byte* factors(Index layer, int stream, Index head, Index slot) noexcept {
    return layout_.factors(pages_[slot / layout_.tokens() - first_], layer, stream, head, slot % layout_.tokens());
  }
  [[nodiscard]] const std::byte* factors(Index layer, int stream, Index head, Index slot) const noexcept {
    const Page* const page = pages_[slot / layout_.tokens() - first_];
    return layout_.factors(page, layer, stream, head, slot % layout_.tokens());
  }
  /// \}

 private:
  [[nodiscard]] Result<Page*> fresh(Index most) { return pool_->acquire(layout_.bytes(), most); }

  /// Adds front_ and back_ pages. If there is no memory, front_ and back_ say how many were added.
  [[nodiscard]] Status add_pages(Index& spare) {
    const Index front = std::exchange(front_, 0), back = std::exchange(back_, 0);
    if (front + back == 0) return {};
    if (Status status = pages_.try_both(pool_->metered(), front, back); !status.ok()) return status;
    for (; front_ < front; ++front_, --first_) {
      Result<Page*> page = fresh(spare--);
      if (!page.ok()) return page.status();
      pages_.push_front(*page);
    }
    for (; back_ < back; ++back_) {
      Result<Page*> page = fresh(spare--);
      if (!page.ok()) return page.status();
      pages_.push_back(*page);
    }
    return {};
  }
  /// Makes page `number` one without another holder: copies it if it is shared.
  [[nodiscard]] Status own_page(Index number, Interval used, Index spare) {
    Result<Page*> own = fresh(spare);
    if (!own.ok()) return own.status();
    Page*& page = pages_[number - first_];
    const Index tokens = layout_.tokens();
    const Index from = std::clamp<Index>(used.begin - number * tokens, 0, tokens);
    const Index to = std::clamp<Index>(used.end - number * tokens, from, tokens);
    layout_.copy(page, from, *own, from, to - from);
    pool_->release(page);
    page = *own;
    return {};
  }
  /// Gives back the first `front` pages and the last `back` ones.
  void drop(Index front, Index back) noexcept {
    for (Index i = 0; i < front; ++i) pool_->release(pages_[i]);
    pages_.pop_front(front);
    first_ += front;
    for (Index i = 0; i < back; ++i) pool_->release(pages_[pages_.size() - 1 - i]);
    pages_.pop_back(back);
  }

  PoolHandle pool_;
  PageLayout layout_;
  SlidingArray<Page*> pages_;
  Index first_ = 0;             // number of pages_[0]
  Index front_ = 0, back_ = 0;  // pages added at each end since the last settle()
};

}  // namespace heed::inline HEED_ABI::detail
