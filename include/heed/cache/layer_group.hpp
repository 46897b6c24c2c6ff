/// \file
/// The layers of a cache that share a retention rule: one index of tokens, and rows in pages.
#pragma once

#include <algorithm>
#include <span>
#include <utility>

#include <heed/cache/page_choice.hpp>
#include <heed/cache/page_table.hpp>
#include <heed/cache/token_index.hpp>

namespace heed::inline HEED_ABI::detail {

/// One index for all layers of the group, and two tables of pages: far rows in their own slots, near rows in slots that
/// are their positions.
class LayerGroup {
 public:
  /// `kept`: the most that the index keeps while a step of one token is open.
  LayerGroup(TokenIndex tokens, const PoolHandle& pool, const PageLayout& layout, const MostKept& kept = {})
      : index(std::move(tokens)),
        far_rows(pool, layout),
        near_rows(pool, layout),
        kept_(kept),
        new_near_(pool, layout) {}

  /// Plans `count` tokens and makes room for their rows and for what commit() will move. After a failure nothing is planned,
  /// and the memory is what it was. After success settle() or undo_plan() must follow.
  template <class Id>
  [[nodiscard]] Status plan(const MemoryResource& memory, Index count, const Id& id) {
    if (Status status = index.plan(memory, count, id); !status.ok()) return status;
    const Index seen = index.seen(), before = index.far_slots(), after = index.far_slots_after_commit();
    Status status = near_rows.try_writable(seen, seen + count, {index.near_begin(), seen}, spare_pages());
    if (status.ok()) {
      const Index first = index.commit_moves_far() ? 0 : before;
      const Index end = std::max(after, index.commit_moves_far() ? before : 0);
      status = far_rows.try_writable(first, end, {0, before}, spare_pages());
    }
    if (!status.ok()) undo_plan();
    return status;
  }
  /// Makes the memory that plan() took final.
  void settle() noexcept {
    index.settle();
    near_rows.settle();
    far_rows.settle();
  }
  /// Undoes plan(), before settle(): pages and bookkeeping are those of before. Copies of shared pages stay.
  void undo_plan() noexcept {
    index.undo_plan();
    near_rows.revert();
    far_rows.revert();
  }
  /// Drops the planned tokens and gives their pages back to the pool.
  void abort() noexcept {
    index.abort();
    give_back();
  }
  /// Keeps the planned tokens, evicts, and gives pages without a token back to the pool.
  void commit(Eviction eviction) noexcept {
    index.commit(Moves{this}, eviction);
    most_held_ = std::max(most_held_, index.seen() - index.near_begin());
    give_back();
  }

  /// Makes room for what a commit with Eviction::later may need, or out_of_memory. A rule that drops landmarks may then
  /// hold more of them.
  [[nodiscard]] Status prepare_later() {
    if (!index.rule().has_history()) return {};
    return far_rows.make_writable(0, index.far_tokens().size(), {0, index.far_slots()});
  }
  /// Makes room for accept(), or out_of_memory. The near rows exist already. More tokens than planned may become far if
  /// a rule has a history, or if its roles depend on positions, because the accepted tokens get other positions.
  [[nodiscard]] Status prepare_accept(const MemoryResource& memory, std::span<const Index> accepted,
                                      std::span<const std::int32_t> ids) {
    TokenIndex::Replan replan;
    if (Status status = index.prepare_replan(memory, accepted, ids, &replan); !status.ok()) return status;
    if (replan.same_roles && !index.rule().has_history()) return {};
    const Index most = std::max(replan.far_tokens, index.far_tokens().size());
    return far_rows.make_writable(0, most, {0, index.far_slots()});
  }
  /// After prepare_accept(): the plan becomes one of the tokens first + accepted[i] only, with the ids `ids`.
  void accept(const MemoryResource& memory, std::span<const Index> accepted,
              std::span<const std::int32_t> ids) noexcept {
    const Index seen = index.seen();
    for (std::size_t i = 0; i < accepted.size(); ++i) near_rows.copy(near_rows, seen + accepted[i], seen + Index(i), 1);
    index.abort();
    // Cannot fail. abort() kept the memory of the lists, which had room for as many tokens or more, and prepare_accept() made
    // room for the landmarks. The near pages are those of the longer plan. Either prepare_accept() made the far pages, or the
    // roles are the same: then a landmark lies before the recent tokens only if it did so in the longer plan.
    const Status status = plan(memory, Index(ids.size()), [&](Index i) { return ids[std::size_t(i)]; });
    static_cast<void>(status);
    settle();
  }

  /// Makes room for truncate(tokens), or out_of_memory.
  [[nodiscard]] Status prepare_truncate(const MemoryResource& memory, Index tokens) {
    if (tokens == 0) return {};
    Index begin = 0;
    if (Status status = index.prepare_truncate(memory, tokens, &begin); !status.ok()) return status;
    if (tokens > index.near_begin()) {
      return near_rows.make_writable(begin, index.near_begin(), {index.near_begin(), index.seen()});
    }
    return new_near_.make_writable(begin, tokens, {});  // no recent row stays: the run may begin far from where it was
  }
  /// After prepare_truncate() or prepare_remove(), if nothing follows: gives pages back to the pool.
  void abandon() noexcept {
    new_near_.clear();
    give_back();
  }
  /// Goes back to the first `tokens` tokens. prepare_truncate() must have made room.
  void truncate(Index tokens) noexcept {
    if (tokens > 0 && tokens <= index.near_begin()) near_rows = std::move(new_near_);
    index.truncate(tokens, Moves{this});
    give_back();
  }

  /// Makes room for remove(gone), or out_of_memory.
  [[nodiscard]] Status prepare_remove(const MemoryResource& memory, std::span<const Interval> gone) {
    Interval slots;
    if (Status status = index.prepare_remove(memory, gone, &slots); !status.ok()) return status;
    return far_rows.make_writable(slots.begin, slots.end, {0, index.far_slots()});
  }
  /// Returns the tokens whose rows moved.
  Index remove(std::span<const Interval> gone) noexcept {
    Moves moves{this};
    index.remove(gone, moves);
    give_back();
    return moves.moved;
  }

  /// The same tokens in shared pages.
  [[nodiscard]] Status share(const MemoryResource& memory, const LayerGroup& other) {
    Status status = index.copy_from(memory, other.index);
    if (status.ok()) status = far_rows.share(other.far_rows);
    if (status.ok()) status = near_rows.share(other.near_rows);
    return status;
  }

  /// Number of pages held.
  [[nodiscard]] Index pages() const noexcept { return far_rows.pages() + near_rows.pages(); }
  /// body(address, bytes) for every page, shared ones included.
  template <class Body>
  void for_each_page(const Body& body) const {
    const Index bytes = PagePool::page_bytes(near_rows.layout().bytes());
    for (const PageTable* const table : {&far_rows, &near_rows}) {
      for (const Page* const page : table->span()) body(static_cast<const void*>(page), bytes);
    }
  }
  /// Pages that the group ever needs if no step has more than `step` tokens; `unlimited` without a bound.
  [[nodiscard]] Index most_pages(Index step = 1) const noexcept {
    if (!kept_.bounded()) return unlimited;
    return detail::most_pages({kept_.recent + step - 1, kept_.landmarks}, near_rows.layout().tokens());
  }
  /// Gives memory of bookkeeping back that a long prompt left. What stays is enough for steps of `step` tokens, for
  /// `reserved` tokens, and for the bound of the rule; without a bound, for what was held since the shrink() before the last.
  void shrink(const MemoryResource& memory, Index step, Index reserved) noexcept {
    if (reserved > 0) step = std::max(step, reserved_step);
    const Index held = std::max(std::exchange(most_held_before_, most_held_), most_held_);
    most_held_ = 0;
    const Index far_tokens = index.far_tokens().size();
    const Index wanted = kept_.bounded() ? most_near(step) : held + step;
    const Index recent = std::max(wanted, std::min(reserved, most_near(reserved_step)));
    const Index distant = kept_.bounded() ? kept_.recent + step + kept_.landmarks : far_tokens + step;
    index.shrink(memory, recent, distant, step);
    const Index page = near_rows.layout().tokens();
    far_rows.shrink(kept_.bounded() ? most_pages(step) : far_rows.pages());
    near_rows.shrink(recent / page + 2);
  }
  /// Near tokens that the group ever keeps, those of a step of `step` tokens included; `unlimited` without a bound.
  [[nodiscard]] Index most_near(Index step) const noexcept {
    return kept_.bounded() ? kept_.recent + step - 1 : unlimited;
  }
  /// Number of pages that have another holder.
  [[nodiscard]] Index shared_pages() const noexcept { return far_rows.shared_pages() + near_rows.shared_pages(); }
  /// Bytes of the index and of the tables, without pages.
  [[nodiscard]] Index bookkeeping() const noexcept {
    return index.allocated() + far_rows.allocated() + near_rows.allocated() + new_near_.allocated();
  }

  /// Pages that the group needs to keep `tokens` tokens, copies of shared ones included: a rule without a bound is
  /// taken to evict none, one with a bound to be full.
  [[nodiscard]] Index pages_lacking(Index tokens) const noexcept {
    const Index more = tokens - index.kept(), seen = index.seen();
    if (more <= 0) return 0;
    const Index beyond = std::max<Index>(0, more - near_rows.room(seen)), page = near_rows.layout().tokens();
    const Index ever = std::max<Index>(0, most_pages(reserved_step) - pages());
    return near_rows.shared_pages(seen) + std::min((beyond + page - 1) / page, ever);
  }

  /// Handles on the pool: one of each table.
  static constexpr Index pool_handles = 3;
  /// Steps of at most this many tokens need no allocation if pages_lacking() is 0.
  static constexpr Index reserved_step = 512;

  TokenIndex index;     ///< which tokens are kept
  PageTable far_rows;   ///< rows of far tokens, in far slots
  PageTable near_rows;  ///< rows of recent tokens; a slot is a position

 private:
  /// Gives pages that hold no token back to the pool. There is no plan.
  void give_back() noexcept {
    near_rows.keep_only(index.near_begin(), index.seen());
    far_rows.keep_only(0, index.far_slots());
  }
  /// Pages still to come.
  [[nodiscard]] Index spare_pages() const noexcept { return std::max<Index>(0, most_pages() - pages()); }

  /// Moves rows as the index says.
  struct Moves {
    LayerGroup* group;
    Index moved = 0;

    void drop(Index slot, Index count, Index end) {
      group->far_rows.copy(group->far_rows, slot + count, slot, end - slot - count);
    }
    void promote(Index position, Index slot, Index count) {
      group->far_rows.copy(group->near_rows, position, slot, count);
      moved += count;
    }
    void demote(Index slot, Index position, Index count) {
      group->near_rows.copy(group->far_rows, slot, position, count);
    }
    void gather(Index slot, Index to, Index count) {
      group->far_rows.copy(group->far_rows, slot, to, count);
      moved += count;
    }
    void advance(Index begin, Index end) { group->near_rows.keep_only(begin, end); }
  };

  MostKept kept_;
  Index most_held_ = 0, most_held_before_ = 0;  // near tokens after a commit, between calls of shrink()
  PageTable new_near_;                          // between prepare_truncate() and truncate()
};

}  // namespace heed::inline HEED_ABI::detail
